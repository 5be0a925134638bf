"""Layers in terms of operators that TFLite has in int16, too: more of them."""

import keras

from keras_hybrid.surgery.editable_model import EditableModel, new_step
from keras_hybrid.surgery.layer_traits import HAS_ACTIVATION, HAVE_PLAIN_OPERATORS

HARD_SILU = ("hard_silu", "hard_swish")


def edit_operators_of_int16(model: EditableModel):
    """Has layers do without quotients, squared differences, HARD_SWISH and blocks as channels."""
    for step in list(model.steps):
        if step.layer_class in HAVE_PLAIN_OPERATORS:
            step.edit().config["plain_operators"] = True
        elif step.layer_class in HAS_ACTIVATION and step.setting("activation") in HARD_SILU:
            step.edit().config["activation"] = "linear"
            model.interpose(step.output, *_hard_silu(step.output, f"{step.name}_hard_silu"))
        elif step.is_a(keras.layers.Activation) and step.setting("activation") in HARD_SILU:
            model.replace(step, *_hard_silu(step.inputs[0], step.name))


def _hard_silu(value, name):
    """x / 6 times relu6(x + 3): put so, the converter makes no HARD_SWISH of it."""
    layers, shape = keras.layers, value.shape
    shifted = new_step(layers.Rescaling(1.0, 3.0, name=f"{name}_shifted"), [value], shape)
    clipped = new_step(layers.ReLU(6.0, name=f"{name}_clipped"), [shifted.output], shape)
    scaled = new_step(layers.Rescaling(1 / 6, name=f"{name}_scaled"), [value], shape)
    product = new_step(layers.Multiply(name=name), [[scaled.output, clipped.output]], shape)
    return [shifted, clipped, scaled, product]
