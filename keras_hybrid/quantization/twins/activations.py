"""Quantised twins of activations that several int8 operators compute."""

import keras
from keras import ops

from keras_hybrid.quantization.twins.composites import PROBABILITY, Composite, fixed_quantizer


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedSiLU(Composite, keras.layers.Activation):
    """x * sigmoid(x) in int8, the sigmoid in TFLite's fixed range."""

    def __init__(self, activation="silu", **kwargs):
        super().__init__(activation=activation, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.gate = fixed_quantizer("gate", PROBABILITY)

    def call(self, inputs, training=None):
        return inputs * self.gate(ops.sigmoid(inputs), training=training)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedHardSigmoid(Composite, keras.layers.Activation):
    """relu6(x + 3) / 6 in int8."""

    def __init__(self, activation="hard_sigmoid", **kwargs):
        super().__init__(activation=activation, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.clipped = fixed_quantizer("clipped", (0.0, 6.0))

    def call(self, inputs, training=None):
        return self.clipped(ops.relu6(inputs + 3.0), training=training) * (1 / 6)


@keras.saving.register_keras_serializable("keras_hybrid")
class HardSwish(keras.layers.Activation):
    """x * relu6(x + 3) / 6 in the spelling that converts to one operator."""

    def __init__(self, activation="hard_silu", **kwargs):
        super().__init__(activation=activation, **kwargs)

    def call(self, inputs):
        return inputs * ops.relu6(inputs + 3.0) * (1 / 6)
