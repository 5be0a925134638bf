"""Batch norms that no convolution could take."""

import keras
import numpy as np

from keras_hybrid.surgery.editable_model import EditableModel, new_step


def edit_lonely_norms(model: EditableModel):
    """Writes batch norms that no convolution could take as depthwise convolutions of one pixel.

    Those of vectors and sequences become a product and a sum.
    """
    for step in list(model.steps):
        if not step.is_a(keras.layers.BatchNormalization):
            continue
        rank = len(step.output.shape)
        if step.setting("axis") not in (-1, rank - 1):
            continue
        variance = step.weight("moving_variance").astype("float64")
        factor = 1 / np.sqrt(variance + step.setting("epsilon"))
        if step.setting("scale"):
            factor = factor * step.weight("gamma")
        offset = -step.weight("moving_mean") * factor
        if step.setting("center"):
            offset = offset + step.weight("beta")
        if rank != 4:
            layer = keras.layers.Rescaling(factor.tolist(), offset.tolist(), name=step.name)
            model.replace(step, new_step(layer, [step.inputs[0]], step.output.shape))
            continue
        layer = keras.layers.DepthwiseConv2D(1, name=step.name)
        weights = {
            "kernel": factor.astype("float32").reshape(1, 1, -1, 1),
            "bias": offset.astype("float32"),
        }
        model.replace(step, new_step(layer, [step.inputs[0]], step.output.shape, weights))
