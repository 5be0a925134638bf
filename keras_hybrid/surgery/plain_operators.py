"""Layers in terms of operators that TFLite has, or that it has in int16, too: more of them."""

import keras
from keras import ops

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


@keras.saving.register_keras_serializable("keras_hybrid")
class ArgMax(keras.layers.Layer):
    """The index of the greatest value, in one operator.

    `keras.ops.argmax` tells -0.0 from 0.0, by operators that TFLite lacks.

    Args:
        axis: along which.
        keepdims: whether it stays, of length 1.

    Input: any shape. Output: int32, likewise without the axis.
    """

    def __init__(self, axis: int, keepdims: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis
        self.keepdims = keepdims

    def call(self, inputs):
        import tensorflow as tf

        found = tf.argmax(inputs, self.axis, output_type="int32")
        return tf.expand_dims(found, self.axis) if self.keepdims else found

    def compute_output_spec(self, inputs):
        return ops.argmax(inputs, self.axis, self.keepdims)

    def get_config(self):
        return {**super().get_config(), "axis": self.axis, "keepdims": self.keepdims}


def edit_argmax(model: EditableModel) -> bool:
    """Has indices of the greatest value found by the operator that TFLite has; whether there are.

    For files alone, which are of the TensorFlow backend.
    """
    found = False
    for step in list(model.steps):
        is_layer = step.is_a(keras.layers.Layer)
        if step.layer_class.__name__ != "Argmax" or is_layer or step.operation.axis is None:
            continue
        layer = ArgMax(step.operation.axis, step.operation.keepdims, name=step.name)
        new = new_step(layer, step.inputs, step.output.shape)
        new.output.dtype = step.output.dtype
        model.replace(step, new)
        found = True
    return found


def _hard_silu(value, name):
    """x / 6 times relu6(x + 3): put so, the converter makes no HARD_SWISH of it."""
    layers, shape = keras.layers, value.shape
    shifted = new_step(layers.Rescaling(1.0, 3.0, name=f"{name}_shifted"), [value], shape)
    clipped = new_step(layers.ReLU(6.0, name=f"{name}_clipped"), [shifted.output], shape)
    scaled = new_step(layers.Rescaling(1 / 6, name=f"{name}_scaled"), [value], shape)
    product = new_step(layers.Multiply(name=name), [[scaled.output, clipped.output]], shape)
    return [shifted, clipped, scaled, product]
