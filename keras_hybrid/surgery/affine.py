"""Changes to the weights of a convolution or dense layer that scale, shift or permute channels."""

import keras
import numpy as np

from keras_hybrid.surgery.editable_model import EditableModel, Step, Value
from keras_hybrid.surgery.layer_traits import AFFINE


def is_affine(model: EditableModel, step: Step | None) -> bool:
    """Whether the step is a convolution or dense layer, called once, without activation."""
    return (
        model.editable(step)
        and step.layer_class in AFFINE  # a derived class may compute something else
        and step.setting("activation") in (None, "linear")
        and step.setting("data_format") in (None, "channels_last")
    )


def affine_producer(model: EditableModel, value: Value) -> Step | None:
    """The affine step that computes the value for one consumer alone, or None."""
    step = model.producer(value)
    if is_affine(model, step) and model.only_consumer(value) is not None:
        return step
    return None


def scale_outputs(step: Step, factor):
    """Multiplies the step's output channels by `factor`, a number or one a channel."""
    weights = step.edit().weights
    if step.is_a(keras.layers.DepthwiseConv2D):
        shape = weights["kernel"].shape
        factors = np.broadcast_to(factor, shape[2] * shape[3]).reshape(shape[2:])
        weights["kernel"] = weights["kernel"] * factors
    else:
        weights["kernel"] = weights["kernel"] * factor
    if "bias" in weights:
        weights["bias"] = weights["bias"] * factor


def shift_outputs(step: Step, offset):
    """Adds `offset`, one a channel, to the step's output."""
    weights = step.edit().weights
    if "bias" not in weights:
        step.config["use_bias"] = True
        weights["bias"] = np.zeros(step.output.shape[-1], "float32")
    weights["bias"] = weights["bias"] + offset


def takes_every_channel(step: Step) -> bool:
    """Whether the step's input channels may be shifted: dense, or 1x1 in one group."""
    if step.is_a(keras.layers.Dense):
        return True
    return (
        step.is_a(keras.layers.Conv2D)
        and tuple(step.setting("kernel_size")) == (1, 1)
        and step.setting("groups") == 1
    )


def scale_inputs(step: Step, factor):
    """Lets a dense layer or 1x1 convolution multiply its input channels by `factor` first."""
    weights = step.edit().weights
    weights["kernel"] = weights["kernel"] * np.broadcast_to(
        factor, weights["kernel"].shape[-2]
    ).reshape(-1, 1)


def shift_inputs(step: Step, offset):
    """Lets a dense layer or 1x1 convolution add `offset`, one a channel, to its input first."""
    kernel = step.edit().weights["kernel"]
    shift_outputs(step, np.asarray(offset) @ kernel.reshape(-1, kernel.shape[-1]))


def grouped_to_dense(step: Step):
    """Writes a grouped convolution as a `Conv2D` of one group, with zeros between the groups."""
    groups = step.setting("groups")
    step.edit()
    step.layer_class = keras.layers.Conv2D
    if groups == 1:
        return
    kernel = step.weights["kernel"]
    height, width, inputs, outputs = kernel.shape
    full = np.zeros((height, width, inputs * groups, outputs), kernel.dtype)
    for group in range(groups):
        out = slice(group * outputs // groups, (group + 1) * outputs // groups)
        full[:, :, group * inputs : (group + 1) * inputs, out] = kernel[..., out]
    step.weights["kernel"] = full
    step.config["groups"] = 1
