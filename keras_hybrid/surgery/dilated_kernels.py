"""Dilated convolutions on small maps, of which most taps of a kernel see padding alone."""

import keras
import numpy as np

from keras_hybrid.surgery.affine import is_affine
from keras_hybrid.surgery.editable_model import EditableModel, Step, new_step

# Of all products, the part with padding that is worth a sum of parts, for the rows of a kernel and
# then for its columns; and how many products of a value that has to be for each part more, as a
# part is cut, padded and added. One core, 32 x 32 px, of the time of the whole kernel:
#
#   channels    rate   products   by rows   by taps
#   80 to 256   6      90         0.93      0.85
#   80 to 256   12     180        0.81      0.64
#   80 to 256   18     270        0.67      0.46
#   64 to 64    6      72         0.93      0.97
#   32 to 256   6      36         0.97      1.01
#   16 to 256   6      18         1.05      1.29
LEAST_SHARE = 1 / 8
LEAST_PRODUCTS = 15
ROWS, COLUMNS = 1, 2  # axes of a map


def edit_dilated_kernels(model: EditableModel):
    """Writes a dilated kernel as a sum of its rows or taps, each convolved where it sees the map.

    XNNPACK multiplies with padding as with anything else.
    """
    for step in list(model.steps):
        if not _is_plain(model, step):
            continue
        axes, parts = [], 1
        for axis in (ROWS, COLUMNS):
            seen = sum(abs(x) < step.inputs[0].shape[axis] for x in _shifts(step, axis))
            if _is_worth(step, axis, parts * (seen - 1)):
                axes.append(axis)
                parts *= seen
        if axes:
            step.edit()
            kernel = np.asarray(step.weights["kernel"])
            steps = _sum(step, step.name, step.inputs[0], kernel, "bias" in step.weights, axes)
            model.replace(step, *steps)


def _is_plain(model, step):
    return (
        is_affine(model, step)
        and step.layer_class is keras.layers.Conv2D
        and step.setting("padding") == "same"
        and set(step.setting("strides")) == {1}
        and step.setting("groups") == 1
        and None not in step.inputs[0].shape[1:3]
    )


def _shifts(step, axis):
    """How far from the output each row or column of the kernel looks, in pixels."""
    taps = step.setting("kernel_size")[axis - 1]
    return [step.setting("dilation_rate")[axis - 1] * (n - taps // 2) for n in range(taps)]


def _is_worth(step, axis, added):
    """Whether parts of the kernel along an axis, so many more, save more than they cost."""
    shifts, size = _shifts(step, axis), step.inputs[0].shape[axis]
    if len(shifts) % 2 == 0 or step.setting("dilation_rate")[axis - 1] == 1:
        return False  # padded more at one end; or next to nothing is
    share = sum(min(abs(shift), size) for shift in shifts) / (len(shifts) * size)
    products = share * np.prod(step.setting("kernel_size")) * step.inputs[0].shape[-1]
    return share >= LEAST_SHARE and products >= LEAST_PRODUCTS * added


def _sum(step: Step, name: str, value, kernel, has_bias: bool, axes: list[int]) -> list[Step]:
    """A kernel on a value, in parts along the axes; the last step's output is the sum."""
    if not axes:
        return [_convolution(step, name, value, kernel, has_bias)]
    axis, *rest = axes
    steps, parts = [], []
    for number, shift in enumerate(_shifts(step, axis)):
        if abs(shift) < value.shape[axis]:
            part = np.take(kernel, [number], axis - 1)
            named = f"{name}_{'row' if axis == ROWS else 'column'}{number}"
            steps += _part(step, named, value, part, has_bias and shift == 0, rest, axis, shift)
            parts.append(steps[-1].output)
    shape = (*value.shape[:-1], step.output.shape[-1])
    if len(parts) == 1:
        return [*steps, new_step(keras.layers.Identity(name=name), parts, shape)]
    return [*steps, new_step(keras.layers.Add(name=name), [parts], shape)]


def _part(step, name, value, kernel, has_bias, rest, axis, shift) -> list[Step]:
    """A row or column of the kernel on what of the value it sees; zeros where it sees nothing."""
    if shift == 0:
        return _sum(step, name, value, kernel, has_bias, rest)
    before, after = max(-shift, 0), max(shift, 0)  # outputs that see nothing
    cut = new_step(
        keras.layers.Cropping2D(_at(axis, after, before), name=f"{name}_cut"),
        [value],
        _resized(value.shape, axis, value.shape[axis] - abs(shift)),
    )
    steps = [cut, *_sum(step, name, cut.output, kernel, has_bias, rest)]
    padded = new_step(
        keras.layers.ZeroPadding2D(_at(axis, before, after), name=f"{name}_pad"),
        [steps[-1].output],
        _resized(steps[-1].output.shape, axis, value.shape[axis]),
    )
    return [*steps, padded]


def _at(axis, before, after):
    return ((before, after), (0, 0)) if axis == ROWS else ((0, 0), (before, after))


def _resized(shape, axis, size):
    return (*shape[:axis], size, *shape[axis + 1 :])


def _convolution(step, name, value, kernel, has_bias) -> Step:
    weights = {"kernel": np.ascontiguousarray(kernel)}
    if has_bias:
        weights["bias"] = step.weights["bias"]
    rates = zip(kernel.shape[:2], step.setting("dilation_rate"), strict=True)
    convolution = keras.layers.Conv2D(
        kernel.shape[-1],
        kernel.shape[:2],
        padding="same",
        dilation_rate=tuple(1 if taps == 1 else rate for taps, rate in rates),
        use_bias=has_bias,
        data_format="channels_last",
        dtype=step.operation.dtype_policy,
        name=name,
    )
    return new_step(convolution, [value], (*value.shape[:-1], kernel.shape[-1]), weights)
