"""Channels in reversed order (RGB to BGR) as reversed kernels."""

import keras
import numpy as np

from keras_hybrid.surgery.affine import is_affine
from keras_hybrid.surgery.editable_model import EditableModel, Step

WHOLE = slice(None)


def edit_channel_reversals(model: EditableModel):
    """Has the convolutions and dense layers after a reversal read the channels from the end."""
    for step in model.steps:
        if not _reverses_channels(step) or model.is_output(step.output):
            continue
        scaling = model.only_consumer(step.output)
        while scaling is not None and scaling.layer_class is keras.layers.Rescaling:
            _swap(model, step, scaling)
            scaling = model.only_consumer(step.output)
        readers = model.consumers(step.output)
        if readers and all(_mixes_channels(model, reader) for reader in readers):
            for reader in readers:
                weights = reader.edit().weights
                weights["kernel"] = weights["kernel"][..., ::-1, :]
            model.bypass(step)


def _reverses_channels(step: Step) -> bool:
    """Whether the step is `x[..., ::-1]` or `keras.ops.flip(x, -1)`."""
    if step.is_a(keras.layers.Layer) or len(step.inputs) != 1:
        return False
    last = len(step.inputs[0].shape) - 1
    if step.layer_class.__name__ == "Flip":
        axis = getattr(step.operation, "axis", None)
        return axis in (-1, last, (-1,), (last,), [-1], [last])
    if step.layer_class.__name__ != "GetItem" or len(step.args) != 2:
        return False
    key = step.args[1] if isinstance(step.args[1], tuple) else (step.args[1],)
    *others, channels = key
    full = [x for x in others if x is not Ellipsis]
    return (
        channels == slice(None, None, -1)
        and all(x == WHOLE for x in full)
        and (len(full) == last or len(full) < len(others))
    )


def _swap(model, step, scaling):
    """Has a scaling after the reversal come before it."""
    config = scaling.edit().config
    for name in ("scale", "offset"):
        values = np.asarray(keras.saving.deserialize_keras_object(config[name]), "float64")
        config[name] = (values[..., ::-1] if values.ndim else values).tolist()
    value = step.inputs[0]
    after = scaling.output
    model.redirect(after, step.output)
    scaling.take(value)
    step.replace_input(value, after)
    step.output.dtype = after.dtype
    model.move_after(scaling, step)


def _mixes_channels(model, step):
    """Whether every output channel is made of all input channels."""
    if not is_affine(model, step) or step.is_a(keras.layers.DepthwiseConv2D):
        return False
    return step.setting("groups") in (None, 1)
