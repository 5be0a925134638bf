"""Layer norm: scale and offset into what follows, the mean into what comes before.

Where a residual or attention reads the norm, its scale stays and its offset goes (`offsets`).
"""

import keras

from keras_hybrid.layers import GlobalTokens, LeanLayerNormalization, UnfoldPatches
from keras_hybrid.surgery.affine import (
    is_affine,
    scale_inputs,
    shift_inputs,
    takes_every_channel,
)
from keras_hybrid.surgery.editable_model import EditableModel, Step, Value
from keras_hybrid.surgery.layer_traits import PIXEL_MOVERS, SHAPE_READERS
from keras_hybrid.surgery.offsets import move_offset


def edit_layer_norms(model: EditableModel):
    """Leaves layer norms what nothing around them can take over: `LeanLayerNormalization`."""
    for step in model.steps:
        if not step.is_a(keras.layers.LayerNormalization) or not model.editable(step):
            continue
        if not _last_axis(step):
            continue
        _fold_scale_and_offset(model, step)
        _fold_offset(model, step)
        zero_mean = step.setting("zero_mean") or _center_stream(model, step)
        step.edit()
        step.layer_class = LeanLayerNormalization
        step.config = {**step.config, "zero_mean": zero_mean}


def _last_axis(step):
    axis = step.setting("axis")
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    return axis in (-1, len(step.output.shape) - 1)


def _fold_scale_and_offset(model, step):
    """Folds them where every reader is a dense layer or 1x1 convolution."""
    readers = _readers(model, step.output)
    if readers is None or not all(
        is_affine(model, reader) and takes_every_channel(reader) for reader in readers
    ):
        return
    scale, offset = step.edit().weights.pop("gamma", None), step.weights.pop("beta", None)
    step.config.update(scale=False, center=False)
    for reader in readers:
        if offset is not None:
            shift_inputs(reader, offset)
        if scale is not None:
            scale_inputs(reader, scale)


def _fold_offset(model, step):
    """Folds the offset alone, where everything that follows can add it."""
    if step.setting("center") and move_offset(model, step.output, step.weight("beta")):
        del step.edit().weights["beta"]
        step.config["center"] = False


def _readers(model: EditableModel, value: Value) -> list[Step] | None:
    """The steps that compute with the value's channels; None where an output shows them."""
    if model.is_output(value):
        return None
    readers = []
    for step in model.consumers(value):
        if reads_shape_alone(step, value):
            continue
        if step.is_a(*PIXEL_MOVERS):
            further = _readers(model, step.output)
            if further is None:
                return None
            readers += further
        else:
            readers.append(step)
    return readers


def reads_shape_alone(step: Step, value: Value) -> bool:
    """Whether the step takes the value for its shape only."""
    if step.is_a(GlobalTokens):
        return True
    return step.is_a(*SHAPE_READERS) and step.inputs[0] is not value


def _center_stream(model, norm) -> bool:
    """Makes what `norm` normalises have mean 0 over the channels, if nobody else sees the mean.

    True for a residual stream that only convolutions and dense layers write to and only layer
    norms read: then each writer's kernel and bias lose their mean over the output channels.
    """
    writers, seen, pending = set(), set(), [norm.inputs[0]]
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if model.is_output(value):
            return False
        producer = model.producer(value)
        if producer.is_a(keras.layers.Add) or producer.is_a(UnfoldPatches):
            pending += producer.inputs
        elif _mixes_all_channels(model, producer):
            writers.add(producer)
        else:
            return False
        for step in model.consumers(value):
            if step.is_a(keras.layers.Add) or step.is_a(UnfoldPatches):
                pending.append(step.output)
            elif not (
                reads_shape_alone(step, value)
                or (step.is_a(keras.layers.LayerNormalization) and _last_axis(step))
            ):
                return False
    for writer in writers:
        weights = writer.edit().weights
        for name, value in weights.items():
            weights[name] = value - value.mean(axis=-1, keepdims=True)
    return True


def _mixes_all_channels(model, step):
    """Whether the step's kernel maps all input channels to all output channels."""
    return is_affine(model, step) and (
        step.is_a(keras.layers.Dense)
        or (
            step.is_a(keras.layers.Conv2D)
            and not step.is_a(keras.layers.DepthwiseConv2D)
            and step.setting("groups") == 1
        )
    )
