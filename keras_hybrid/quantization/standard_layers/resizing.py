"""Resizing that int8 has no operator for, as matrix products along height and width."""

import keras
import numpy as np
from keras import layers, ops

from keras_hybrid.quantization.standard_layers.steps import step_of
from keras_hybrid.quantization.twins.plain import Resize
from keras_hybrid.surgery.editable_model import Step

PLAIN = ("nearest", "bilinear")  # what int8 has operators for


def resizing(step: Step) -> list[Step] | None:
    """`keras.layers.Resizing` by any interpolation, without crop or padding."""
    if step.setting("crop_to_aspect_ratio") or step.setting("pad_to_aspect_ratio"):
        return None
    size = (step.setting("height"), step.setting("width"))
    return _resized(step, step.inputs[0], size, step.setting("interpolation"), False)


def resize(step: Step) -> list[Step] | None:
    """`keras.ops.image.resize`."""
    operation = step.operation
    if operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio:
        return None
    if operation.data_format not in (None, "channels_last"):
        return None
    return _resized(
        step, step.inputs[0], operation.size, operation.interpolation, operation.antialias
    )


def upsampling(step: Step) -> list[Step] | None:
    """`keras.layers.UpSampling2D` by interpolations other than those in the table."""
    if step.setting("interpolation") in PLAIN or step.setting("data_format") != "channels_last":
        return None
    size = tuple(step.output.shape[1:3])
    return _resized(step, step.inputs[0], size, step.setting("interpolation"), False)


def center_crop(step: Step) -> list[Step] | None:
    """`keras.layers.CenterCrop` of a larger image."""
    height, width = step.inputs[0].shape[1:3]
    if len(step.inputs[0].shape) != 4 or None in (height, width):
        return None
    over = (height - step.setting("height"), width - step.setting("width"))
    if min(over) < 0:
        return None
    crops = tuple((rest // 2, rest - rest // 2) for rest in over)
    layer = layers.Cropping2D(crops, data_format="channels_last", name=step.name)
    return [step_of(layer, step.inputs[0])]


def _resized(step, value, size, interpolation, antialias):
    if len(value.shape) != 4:
        return None
    batch, height, width, channels = value.shape
    height_to, width_to = (int(x) for x in size)
    if None in (height, width):
        return None
    if (height, width) == (height_to, width_to):
        return [step_of(layers.Reshape(value.shape[1:], name=step.name), value)]
    if interpolation in PLAIN and not antialias:
        layer = Resize((height_to, width_to), interpolation, name=step.name)
        return [step_of(layer, value)]
    steps = []
    for number, (axis, before, after) in enumerate(((1, height, height_to), (2, width, width_to))):
        # The axis goes last, is resized as a dense layer would, and goes back.
        order = (3, 2, 1) if axis == 1 else (1, 3, 2)
        turned = layers.Permute(order, name=f"{step.name}_turned{number}")
        steps.append(step_of(turned, steps[-1].output if steps else value))
        kernel = _matrix(before, after, interpolation, antialias)
        dense = layers.Dense(after, use_bias=False, name=f"{step.name}_axis{number}")
        steps.append(step_of(dense, steps[-1].output, {"kernel": kernel}))
        back = layers.Permute(order, name=f"{step.name}_back{number}" if number == 0 else step.name)
        steps.append(step_of(back, steps[-1].output))
    return steps


def _matrix(before, after, interpolation, antialias):
    """What resizing a line makes of each pixel, (before, after)."""
    lines = np.eye(before, dtype="float32")[:, None, :, None]
    resized = ops.image.resize(
        np.repeat(lines, 4, 1),
        (4, after),
        interpolation=interpolation,
        antialias=antialias,
        data_format="channels_last",
    )
    return keras.ops.convert_to_numpy(resized)[:, 0, :, 0]
