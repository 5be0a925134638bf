"""What TFLite's converter of int16x8 makes wrong of kernels and biases, and says nothing of.

It gives a tensor the step of the values that it sees on images. Of zeros alone, such as a dead
ReLU's, that is next to nothing, and the kernel and the bias after it are divided by it: they become
0 or no number at all, and the layer gives no bias any more. A dense layer whose own kernel is zero
ends likewise. Biases that are equal it makes one constant, with the step of one of their layers.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_hybrid.export.int16.watched_values import watch_values
from keras_hybrid.layers import GroupedConv2D
from keras_hybrid.surgery.editable_model import EditableModel, Value, new_step

KERNELS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    GroupedConv2D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Dense,
    keras.layers.EinsumDense,
)
SILENT = 1e-20  # the greatest value of what counts as zeros alone
NEXT_TO_NOTHING = 1e-9  # a weight that has a step, and no effect
# A dense kernel over its bias, of which 2^30 steps make the bias: twice 127 * 32767 / 2^30.
LEAST_WEIGHT = 8e-3
NEXT_NUMBER = 2.0**-22  # between a number and another one in float32, over the number


@keras.saving.register_keras_serializable("keras_hybrid")
class Held(keras.layers.Layer):
    """A constant in place of an input, by operators that the converter neither folds nor fuses.

    Args:
        value: of all numbers.

    Input, output: any shape.
    """

    def __init__(self, value: float, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def call(self, inputs):
        return ops.minimum(ops.maximum(inputs, self.value), self.value)

    def get_config(self):
        return {**super().get_config(), "value": self.value}


def edit_int16_kernels(images: Sequence[np.ndarray]) -> Callable[[EditableModel], None]:
    """An edit after which the converter has a range for all kernels, and a bias for each.

    A kernel whose input images leave at zero, and a dense one that is zero itself, takes a constant
    in place of its input, and is next to nothing. Of equal biases all but one are changed in their
    last digits. On these images the model computes the same.

    Args:
        images: (1, ...) each, as the model takes them.
    """

    def edit(model: EditableModel):
        kernels = [
            step
            for step in model.steps
            if step.layer_class in KERNELS and step.weight("bias") is not None
        ]
        silent = _silent(model, {step.inputs[0] for step in kernels}, images)
        for number, step in enumerate(kernels):
            is_zero = step.is_a(keras.layers.Dense) and not np.any(step.weight("kernel"))
            if is_zero or step.inputs[0] in silent:
                _give_bias(model, step, NEXT_TO_NOTHING * (1 + number / len(kernels)))
        _tell_biases_apart(kernels)

    return edit


def _tell_biases_apart(kernels):
    seen: dict[bytes, int] = {}
    for step in kernels:
        bias = step.weight("bias")
        content = bias.tobytes()
        number = seen.get(content, 0)
        seen[content] = number + 1
        if number and np.any(bias):
            changed = bias * (1 + number * NEXT_NUMBER)
            step.edit().weights["bias"] = changed.astype("float32")


def _silent(model, values, images) -> set[Value]:
    """Those of the values that are zeros for all images."""
    peaks = dict.fromkeys(values, 0.0)

    def watcher(value):
        def see(tensor):
            peaks[value] = max(peaks[value], float(ops.max(ops.abs(tensor))))

        return see

    watch_values(model, [(value, watcher(value)) for value in values], images)
    return {value for value, peak in peaks.items() if peak < SILENT}


def _give_bias(model, step, weight):
    """Lets a step take a constant, of which it makes its bias alone.

    Kernels differ: what is equal the converter makes one constant, of one step for all biases.
    """
    value, weights = step.inputs[0], step.edit().weights
    greatest = float(np.abs(weights["bias"]).max())
    constant = max(1.0, greatest)
    # What is held has one step with it; others who take the value keep theirs.
    own = new_step(keras.layers.Rescaling(0.5, name=f"{step.name}_apart"), [value], value.shape)
    held = new_step(Held(constant, name=f"{step.name}_constant"), [own.output], value.shape)
    model.interpose(value, own, held, consumers=[step])
    for name, values in weights.items():
        if name.endswith("kernel"):
            weights[name] = np.full_like(values, weight)
    if step.is_a((keras.layers.Dense, keras.layers.EinsumDense)):
        # One step for the whole kernel, and the bias in 32 bits of that step and the input's.
        weight = LEAST_WEIGHT * greatest / constant
        kernel = np.zeros_like(weights["kernel"])
        kernel[_first_input(step)] = weight
        weights |= {"kernel": kernel, "bias": weights["bias"] - weight * constant}


def _first_input(step):
    """Index of the weights of one number of the input, for every output."""
    if step.is_a(keras.layers.Dense):
        return 0
    letters, output = step.setting("equation").replace("...", "").split("->")
    kernel = letters.split(",")[1]
    return tuple(slice(None) if letter in output else 0 for letter in kernel)
