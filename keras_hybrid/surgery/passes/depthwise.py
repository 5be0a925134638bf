"""Depthwise convolutions that CPU kernels have no fast path for, in terms of those they have.

XNNPACK's depthwise kernels take at most 25 taps and one output channel per input channel; all else
runs as a grouped convolution, group by group. Measured on one core (7x7 at 14x14x128: 668 us, in
three parts 73 us; 3x3 with 4 outputs per channel at 28x28x48: 195 us, in four parts 78 us).
"""

import keras
import numpy as np

from keras_hybrid.layers import ChannelShuffle
from keras_hybrid.surgery.affine import is_affine
from keras_hybrid.surgery.editable_model import EditableModel, Step, new_step

MAXIMUM_TAPS = 25
# Narrower inputs leave vectors half empty: there, one convolution of repeated channels is faster.
NARROW = 32
# Up to so many channels an NPU computes all outputs of all channels in the time of their own.
MAXIMUM_DENSE = 32


def edit_large_kernels(model: EditableModel):
    """Writes kernels over 25 taps as sums of dilated kernels of three rows."""
    for step in list(model.steps):
        if not _is_plain(model, step, False) or step.setting("depth_multiplier") != 1:
            continue
        height, width = step.setting("kernel_size")
        if (
            height * width <= MAXIMUM_TAPS
            or 3 * width > MAXIMUM_TAPS
            or height % 2 == 0
            or step.setting("padding") != "same"
            or any(rate != 1 for rate in step.setting("dilation_rate"))
        ):
            continue
        step.edit()
        parts = [_rows_at_distance(step, distance) for distance in range(1, height // 2 + 1)]
        total = new_step(
            keras.layers.Add(name=step.name),
            [[part.output for part in parts]],
            step.output.shape,
        )
        model.replace(step, *parts, total)


def _rows_at_distance(step: Step, distance: int) -> Step:
    """The kernel's rows at a distance from its centre, as a dilated kernel of three rows.

    The centre row itself goes to the rows next to it; padding stays symmetric in all parts.
    """
    kernel = step.weights["kernel"]
    centre = kernel.shape[0] // 2
    rows = kernel[[centre - distance, centre, centre + distance]].copy()
    if distance > 1:
        rows[1] = 0
    weights = {"kernel": rows}
    if distance == 1 and "bias" in step.weights:
        weights["bias"] = step.weights["bias"]
    layer = keras.layers.DepthwiseConv2D(
        rows.shape[:2],
        padding="same",
        dilation_rate=(distance, 1),
        use_bias="bias" in weights,
        data_format="channels_last",
        dtype=step.operation.dtype_policy,
        name=f"{step.name}_rows{distance}",
    )
    return new_step(layer, step.args, step.output.shape, weights)


def edit_depth_multipliers(model: EditableModel):
    """Writes several outputs a channel as one each, where the stride is 1."""
    _split_multipliers(model, strided=False)


def edit_strided_depth_multipliers(model: EditableModel):
    """Does so at any stride, as is worth while in int8 only."""
    _split_multipliers(model, strided=True)


def edit_multipliers_to_dense(model: EditableModel):
    """Writes several outputs a channel as a dense convolution, where there are few channels.

    For NPUs, which compute many channels at once anyway: Ethos-U85 takes 38 thousand cycles for
    8 to 24 channels at 56 x 56 px, and 110 thousand for three depthwise kernels side by side.
    """
    for step in list(model.steps):
        if not _is_plain(model, step, True) or step.setting("depth_multiplier") == 1:
            continue
        if any(rate != 1 for rate in step.setting("dilation_rate")):
            continue
        channels, multiplier = step.edit().weights["kernel"].shape[2:]
        if channels > MAXIMUM_DENSE:
            continue
        kernel = step.weights["kernel"]
        dense = np.zeros((*kernel.shape[:3], channels * multiplier), kernel.dtype)
        for channel in range(channels):
            columns = slice(channel * multiplier, (channel + 1) * multiplier)
            dense[:, :, channel, columns] = kernel[:, :, channel]
        shared = ("name", "kernel_size", "strides", "padding", "activation", "use_bias", "dtype")
        layer = keras.layers.Conv2D(
            filters=channels * multiplier,
            data_format="channels_last",
            **{name: step.config[name] for name in shared},
        )
        convolution = new_step(
            layer, step.args, step.output.shape, {**step.weights, "kernel": dense}
        )
        convolution.folded_norm = step.folded_norm
        model.replace(step, convolution)


def _split_multipliers(model, strided):
    for step in list(model.steps):
        if not _is_plain(model, step, strided) or step.setting("depth_multiplier") == 1:
            continue
        step.edit()
        if step.inputs[0].shape[-1] < NARROW and set(step.setting("strides")) == {1}:
            model.replace(step, *_repeat_channels(step))
        else:
            model.replace(step, *_one_per_multiple(step))


def _repeat_channels(step: Step) -> list[Step]:
    """A pointwise convolution that repeats each channel, then a depthwise one."""
    channels, multiplier = step.weights["kernel"].shape[2:]
    repeated = new_step(
        keras.layers.Conv2D(
            channels * multiplier,
            1,
            use_bias=False,
            data_format="channels_last",
            dtype=step.operation.dtype_policy,
            name=f"{step.name}_repeat",
        ),
        step.args,
        (*step.inputs[0].shape[:-1], channels * multiplier),
        {"kernel": np.repeat(np.eye(channels, dtype="float32"), multiplier, axis=1)[None, None]},
    )
    kernel = step.weights["kernel"]
    weights = {**step.weights, "kernel": kernel.reshape(*kernel.shape[:2], -1, 1)}
    depthwise = new_step(_like(step, step.name), [repeated.output], step.output.shape, weights)
    depthwise.folded_norm = step.folded_norm
    return [repeated, depthwise]


def _one_per_multiple(step: Step) -> list[Step]:
    """One depthwise convolution per multiple, side by side, and the shuffle of their channels."""
    channels, multiplier = step.weights["kernel"].shape[2:]
    shape = (*step.output.shape[:-1], channels)
    parts = []
    for index in range(multiplier):
        weights = {"kernel": step.weights["kernel"][..., index : index + 1]}
        if "bias" in step.weights:
            weights["bias"] = step.weights["bias"][index::multiplier]
        part = new_step(_like(step, f"{step.name}_{index}"), step.args, shape, weights)
        if step.folded_norm is not None:
            part.folded_norm = step.folded_norm.of_channels(slice(index, None, multiplier))
        parts.append(part)
    together = new_step(
        keras.layers.Concatenate(name=step.name),
        [[part.output for part in parts]],
        step.output.shape,
    )
    shuffle = new_step(
        ChannelShuffle(multiplier, name=f"{step.name}_order"),
        [together.output],
        step.output.shape,
    )
    return [*parts, together, shuffle]


def _like(step, name):
    """The layer of a step with one output per channel."""
    return step.layer_class.from_config({**step.config, "depth_multiplier": 1, "name": name})


def _is_plain(model, step, strided):
    """Whether the step is a depthwise convolution, of stride 1 or any, that can be changed."""
    return (
        is_affine(model, step)
        and step.is_a(keras.layers.DepthwiseConv2D)
        and (strided or all(stride == 1 for stride in step.setting("strides")))
    )
