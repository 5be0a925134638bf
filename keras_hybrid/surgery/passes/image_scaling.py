"""Image scaling inside a network: into the first convolution what can be, the rest one sum."""

import keras
import numpy as np

from keras_hybrid.surgery.affine import (
    is_affine,
    scale_inputs,
    shift_inputs,
    takes_every_channel,
)
from keras_hybrid.surgery.editable_model import EditableModel, new_step


def edit_scalings(model: EditableModel):
    """Has the layers after an image scaling scale, and what is left be one sum.

    Factors go into the convolutions and dense layers that follow, through zero padding, too.
    Offsets do where nothing is padded: zeros stand for what was scaled to 0, not for black. What
    puts a channel to 0 stays, and so does what makes whole numbers float.
    """
    for step in list(model.steps):
        if not step.is_a(keras.layers.Rescaling, keras.layers.Normalization):
            continue
        if not model.editable(step):
            continue
        factor, offset = _factor_and_offset(step)
        before = model.producer(step.inputs[0])
        if before.layer_class is keras.layers.Rescaling and model.only_consumer(before.output):
            first_factor, first_offset = _factor_and_offset(before)
            factor, offset = first_factor * factor, first_offset * factor + offset
            step.take(before.inputs[0])
            model.remove(before)
        channels = step.output.shape[-1]
        after = _affine_consumers(model, step.output)
        if after and _by_channel(factor, channels) and np.all(factor != 0):
            for consumer in after:
                scale_inputs(consumer, factor.reshape(-1))
            offset, factor = offset / factor, np.ones(())
            if _by_channel(offset, channels) and all(
                takes_every_channel(consumer) and step.output in consumer.inputs
                for consumer in after
            ):
                for consumer in after:
                    shift_inputs(consumer, np.broadcast_to(offset.reshape(-1), channels))
                offset = np.zeros(())
        if np.all(factor == 1) and not np.any(offset) and step.inputs[0].is_float:
            model.bypass(step)
            continue
        layer = keras.layers.Rescaling(
            factor.tolist(), offset.tolist(), name=step.name, dtype=step.operation.dtype_policy
        )
        model.replace(step, new_step(layer, [step.inputs[0]], step.output.shape))


def edit_products_and_sums(model: EditableModel):
    """Writes what scales and shifts as two steps: each is an operator with a range of its own."""
    for step in list(model.steps):
        if step.layer_class is not keras.layers.Rescaling or not model.editable(step):
            continue
        factor, offset = _factor_and_offset(step)
        if np.all(factor == 1) or not np.any(offset):
            continue
        shape, policy = step.output.shape, step.operation.dtype_policy
        product = keras.layers.Rescaling(factor.tolist(), name=f"{step.name}_product", dtype=policy)
        product = new_step(product, [step.inputs[0]], shape)
        total = keras.layers.Rescaling(1.0, offset.tolist(), name=step.name, dtype=policy)
        model.replace(step, product, new_step(total, [product.output], shape))


def _factor_and_offset(step):
    """What the layer computes: input * factor + offset, in arrays that broadcast to an image."""
    if step.is_a(keras.layers.Rescaling):
        return tuple(
            np.asarray(keras.saving.deserialize_keras_object(step.setting(name)), "float64")
            for name in ("scale", "offset")
        )
    layer = step.operation
    mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(x), "float64")[0]
        for x in (layer.mean, layer.variance)
    )
    deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    if layer.invert:
        return deviation, mean
    return 1 / deviation, -mean / deviation


def _by_channel(array, channels):
    """Whether an array is one number, or one a channel."""
    return array.size == 1 or array.size == array.shape[-1] == channels


def _affine_consumers(model, value):
    """The convolutions and dense layers that take the value; none where others do, too."""
    if model.is_output(value):
        return []
    found = []
    for consumer in model.consumers(value):
        if consumer.is_a(keras.layers.ZeroPadding2D):
            after = _affine_consumers(model, consumer.output)
        elif is_affine(model, consumer) and _mixes_channels(consumer):
            after = [consumer]
        else:
            after = []
        if not after:
            return []
        found += after
    return found


def _mixes_channels(step):
    """Whether every output channel is made of all input channels."""
    if step.is_a(keras.layers.DepthwiseConv2D):
        return False
    return step.is_a(keras.layers.Dense) or step.setting("groups") == 1
