"""Hard sigmoids of gates and of DY-ReLU as the clipped activation of the layer before.

hard_sigmoid(x) = relu6(x + 3) / 6: the 3 goes into the bias before, relu6 is an activation that
dense layers have for free, and the factor goes into what follows. A slope 2 * hard_sigmoid(x) - 1
is hard_tanh(x / 3).
"""

import keras
import numpy as np

from keras_hybrid.layers import DynamicReLU, TwoSlopeReLU
from keras_hybrid.surgery.affine import (
    affine_producer,
    is_affine,
    scale_inputs,
    scale_outputs,
    shift_outputs,
    takes_every_channel,
)
from keras_hybrid.surgery.editable_model import EditableModel, new_step


def edit_gates(model: EditableModel):
    """Has the dense layer of a gate clip to 0..6, and what takes the product divide by 6."""
    for step in list(model.steps):
        if not step.is_a(keras.layers.Activation) or step.setting("activation") != "hard_sigmoid":
            continue
        dense = affine_producer(model, step.inputs[0])
        factor, last = 1 / 6, step
        rescaling = model.only_consumer(step.output)
        if rescaling is not None and _is_factor(rescaling):
            factor, last = factor * rescaling.setting("scale"), rescaling
        product = model.only_consumer(last.output)
        if dense is None or product is None or not product.is_a(keras.layers.Multiply):
            continue
        after = model.consumers(product.output)
        if model.is_output(product.output) or not all(
            is_affine(model, consumer) and takes_every_channel(consumer) for consumer in after
        ):
            continue
        shift_outputs(dense, 3.0)
        dense.config["activation"] = "relu6"
        for consumer in after:
            scale_inputs(consumer, factor)
        model.redirect(last.output, dense.output)
        model.remove_unused()


def _is_factor(step):
    return (
        step.is_a(keras.layers.Rescaling)
        and np.ndim(step.setting("scale")) == 0
        and step.setting("offset") == 0
    )


def edit_dynamic_relus(model: EditableModel):
    """Gives DY-ReLU its two slopes from two clipped dense layers."""
    for step in list(model.steps):
        if not step.is_a(DynamicReLU):
            continue
        features, coefficients = step.inputs
        dense = affine_producer(model, coefficients)
        if dense is None or not dense.is_a(keras.layers.Dense):
            continue
        channels = features.shape[-1]
        dense.edit()
        slopes = []
        for name, columns, activation in (
            ("first", slice(None, channels), "relu6"),
            ("second", slice(channels, None), "hard_tanh"),
        ):
            layer = keras.layers.Dense(channels, activation=activation, name=f"{dense.name}_{name}")
            weights = {key: value[..., columns] for key, value in dense.weights.items()}
            shape = (dense.output.shape[0], channels)
            slope = new_step(layer, dense.args, shape, weights, dense.origin)
            if activation == "relu6":
                shift_outputs(slope, 3.0)
            else:
                scale_outputs(slope, 1 / 3)
            slopes.append(slope)
        relu = new_step(
            TwoSlopeReLU(1 / 3, name=step.name),
            [[features, *(slope.output for slope in slopes)]],
            step.output.shape,
        )
        model.replace(step, *slopes, relu)
        model.remove(dense)
