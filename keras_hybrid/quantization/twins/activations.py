"""Quantised twins of activations that several int8 operators compute."""

import keras
from keras import ops

from keras_hybrid.keras_private import count_calls
from keras_hybrid.quantization.twins.composites import PROBABILITY, Composite, fixed_quantizer
from keras_hybrid.quantization.twins.engine_rounding import (
    product_of_steps,
    rounded_hard_swish,
    rounded_product,
    rounded_slopes,
    rounded_softmax,
)
from keras_hybrid.quantization.twins.plain import ExponentialLinear
from keras_hybrid.quantization.twins.roundings_around import rounding_after, rounding_before


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedSiLU(Composite, keras.layers.Activation):
    """x * sigmoid(x) in int8, the sigmoid in TFLite's fixed range."""

    def __init__(self, activation="silu", **kwargs):
        super().__init__(activation=activation, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.gate = fixed_quantizer("gate", PROBABILITY)

    def call(self, inputs, training=None):
        outputs = inputs * self.gate(ops.sigmoid(inputs), training=training)
        if training:
            return outputs
        unit = product_of_steps(rounding_before(self), self.gate)
        return rounded_product(self, outputs, unit)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedSoftmax(keras.layers.Activation):
    """A softmax over the last axis, as TFLite computes it of integers."""

    def __init__(self, activation="softmax", **kwargs):
        super().__init__(activation=activation, **kwargs)

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        if training or count_calls(self) != 1:
            return outputs
        return rounded_softmax(inputs, outputs, rounding_before(self), rounding_after(self))


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

    def call(self, inputs, training=None):
        outputs = inputs * ops.relu6(inputs + 3.0) * (1 / 6)
        return outputs if training else rounded_hard_swish(self, inputs, outputs)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedLeakyReLU(keras.layers.LeakyReLU):
    """`keras.layers.LeakyReLU`, rounded as the file's kernel does where it is not trained."""

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        return outputs if training else rounded_slopes(self, inputs, outputs, self.negative_slope)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedELU(Composite, ExponentialLinear):
    """x where it is positive, else alpha * (exp(x) - 1), in int8."""

    def build(self, input_shape):
        super().build(input_shape)
        self.positive = self._learned("positive")
        self.negative = self._learned("negative")
        self.exponential = fixed_quantizer("exponential", (0.0, 1.0))
        self.curve = self._learned("curve")
        if self.alpha != 1:
            self.shifted = self._learned("shifted")

    def call(self, inputs, training=None):
        positive = self.positive(ops.relu(inputs), training=training)
        negative = self.negative(inputs - positive, training=training)
        x = self.exponential(ops.exp(negative), training=training) - 1.0
        if self.alpha != 1:
            x = self.shifted(x, training=training) * self.alpha
        return positive + self.curve(x, training=training)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedSoftplus(Composite, keras.layers.Activation):
    """log(1 + exp(x)) in int8, as relu(x) - log(sigmoid(|x|)), of which nothing grows large."""

    def __init__(self, activation="softplus", **kwargs):
        super().__init__(activation=activation, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.positive = self._learned("positive")
        self.negative = self._learned("negative")
        self.size = self._learned("size")
        self.gate = fixed_quantizer("gate", PROBABILITY)
        self.logarithm = self._learned("logarithm")

    def call(self, inputs, training=None):
        positive = self.positive(ops.relu(inputs), training=training)
        negative = self.negative(inputs - positive, training=training)
        size = self.size(positive - negative, training=training)
        gate = self.gate(ops.sigmoid(size), training=training)
        return positive - self.logarithm(ops.log(gate), training=training)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedPReLU(Composite, keras.layers.PReLU):
    """x where it is positive, else x times a trained slope, in int8."""

    def build(self, input_shape):
        super().build(input_shape)
        self.positive = self._learned("positive")
        self.negative = self._learned("negative")
        self.slopes = self._learned("slopes")
        self.line = self._learned("line")

    def call(self, inputs, training=None):
        positive = self.positive(ops.relu(inputs), training=training)
        negative = self.negative(inputs - positive, training=training)
        self.check_training(training)
        slopes = self.slopes(self.alpha, training=training)
        return positive + self.line(negative * slopes, training=training)
