"""Images of any type, and arithmetic with constants, in terms of `Rescaling`.

What users write beside layers (`x / 255.0`, `(x - mean) / std`, `keras.ops.cast`) scales images as
`Rescaling` does, and goes where that goes: into the weights of what follows.
"""

import keras
import numpy as np

from keras_hybrid.surgery.editable_model import EditableModel, Step, Value, new_step


def edit_constant_arithmetic(model: EditableModel):
    """Writes sums, differences, products and quotients with constants as `Rescaling`."""
    for step in model.steps:
        found = _factor_and_offset(step)
        if found is None:
            continue
        factor, offset = (x.reshape(-1) if x.size > 1 else x.reshape(()) for x in found)
        layer = keras.layers.Rescaling(
            factor.tolist(), offset.tolist(), name=step.name, dtype="float32"
        )
        model.replace(step, new_step(layer, step.inputs, step.output.shape))


def edit_integer_images(model: EditableModel):
    """Has images of whole numbers come as float, where all that takes them makes them float.

    For files and quantisation, which have ways of their own to take integers.
    """
    for step in model.steps:
        if not step.is_a(keras.layers.InputLayer) or step.output.is_float:
            continue
        image = step.output
        after = model.consumers(image)
        if len(image.shape) < 3 or not after or not all(_makes_float(x) for x in after):
            continue
        step.edit().config["dtype"] = "float32"
        image.dtype = "float32"
        for consumer in after:
            if _is_cast(consumer):
                model.bypass(consumer)


def _is_cast(step: Step) -> bool:
    return step.layer_class.__name__ == "Cast" and not step.is_a(keras.layers.Layer)


def _makes_float(step: Step) -> bool:
    """Whether the step takes whole numbers and computes with them in float."""
    if _is_cast(step):
        return step.output.is_float
    return step.is_a(keras.layers.Rescaling, keras.layers.Normalization)


def _factor_and_offset(step: Step):
    """What the step computes, input * factor + offset, as arrays; None for anything else."""
    if step.is_a(keras.layers.Layer) or len(step.inputs) != 1 or len(step.outputs) != 1:
        return None
    kind, args = step.layer_class.__name__, (*step.args, *step.kwargs.values())
    if len(args) != 2 or not step.output.is_float or step.output.shape != step.inputs[0].shape:
        return None
    first, second = args
    constant = second if isinstance(first, Value) else first
    try:
        constant = np.asarray(keras.ops.convert_to_numpy(constant), "float64")
    except Exception:  # not a number
        return None
    if constant.size not in (1, constant.shape[-1] if constant.ndim else 1):
        return None
    if constant.size > 1 and constant.size != step.output.shape[-1]:
        return None
    one, zero = np.ones(()), np.zeros(())
    value_first = isinstance(first, Value)
    if kind == "Multiply":
        return constant, zero
    if kind in ("TrueDivide", "Divide") and value_first and np.all(constant != 0):
        return 1 / constant, zero
    if kind == "Add":
        return one, constant
    if kind == "Subtract":
        return (one, -constant) if value_first else (-one, constant)
    return None
