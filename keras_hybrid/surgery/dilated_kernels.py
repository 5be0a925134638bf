"""Dilated convolutions on small maps, of which most rows of a kernel see padding alone."""

import keras
import numpy as np

from keras_hybrid.surgery.affine import is_affine
from keras_hybrid.surgery.editable_model import EditableModel, Step, new_step

# Of all products, the part with padding that is worth two passes over a map to be rid of; and how
# many products of a value that has to be. DeepLabv3's rates of 6, 12 and 18 on 32 x 32 px have 12,
# 25 and 38 % of them; of the three, the time falls to 0.72 (320 to 256 channels, one core).
LEAST_SHARE = 1 / 8
LEAST_PRODUCTS = 64


def edit_dilated_kernels(model: EditableModel):
    """Writes a dilated kernel as a sum of its rows, each convolved where it sees the map.

    XNNPACK multiplies with padding as with anything else.
    """
    for step in list(model.steps):
        if not _is_plain(model, step):
            continue
        height, channels = step.inputs[0].shape[1], step.inputs[0].shape[-1]
        rows, columns = step.setting("kernel_size")
        rate = step.setting("dilation_rate")[0]
        if height is None or rows % 2 == 0 or rate == 1:
            continue
        shifts = [rate * (row - rows // 2) for row in range(rows)]
        share = sum(min(abs(shift), height) for shift in shifts) / (rows * height)
        if share < LEAST_SHARE or share * rows * columns * channels < LEAST_PRODUCTS:
            continue
        step.edit()
        steps, parts = [], []
        for row, shift in enumerate(shifts):
            if abs(shift) < height:
                steps += _row(step, row, shift)
                parts.append(steps[-1].output)
        if len(parts) == 1:
            steps.append(new_step(keras.layers.Identity(name=step.name), parts, step.output.shape))
        else:
            add = keras.layers.Add(name=step.name)
            steps.append(new_step(add, [parts], step.output.shape))
        model.replace(step, *steps)


def _is_plain(model, step):
    return (
        is_affine(model, step)
        and step.layer_class is keras.layers.Conv2D
        and step.setting("padding") == "same"
        and set(step.setting("strides")) == {1}
        and step.setting("groups") == 1
    )


def _row(step: Step, row: int, shift: int) -> list[Step]:
    """A row of the kernel, on the rows of the map that it sees; zeros where it sees none."""
    name = f"{step.name}_row{row}"
    (value,), (batch, height, width, filters) = step.inputs, step.output.shape
    weights = {"kernel": np.ascontiguousarray(step.weights["kernel"][row : row + 1])}
    if shift == 0 and "bias" in step.weights:
        weights["bias"] = step.weights["bias"]
    convolution = keras.layers.Conv2D(
        filters,
        weights["kernel"].shape[:2],
        padding="same",
        dilation_rate=(1, step.setting("dilation_rate")[1]),
        use_bias="bias" in weights,
        data_format="channels_last",
        dtype=step.operation.dtype_policy,
        name=name,
    )
    if shift == 0:
        return [new_step(convolution, [value], step.output.shape, weights)]
    seen = height - abs(shift)
    above, below = max(-shift, 0), max(shift, 0)  # rows of the output that see nothing
    cut = new_step(
        keras.layers.Cropping2D(((below, above), (0, 0)), name=f"{name}_cut"),
        [value],
        (batch, seen, *value.shape[2:]),
    )
    convolved = new_step(convolution, [cut.output], (batch, seen, width, filters), weights)
    padded = new_step(
        keras.layers.ZeroPadding2D(((above, below), (0, 0)), name=f"{name}_pad"),
        [convolved.output],
        step.output.shape,
    )
    return [cut, convolved, padded]
