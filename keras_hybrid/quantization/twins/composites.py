"""Quantised twins of layers that several int8 operators compute."""

import keras
from keras import ops

from keras_hybrid.keras_private import count_calls
from keras_hybrid.layers import LeanLayerNormalization, TwoSlopeReLU
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.twins.engine_rounding import (
    product_of_steps,
    rounded_mean,
    rounded_product,
    rounded_total_of,
)
from keras_hybrid.quantization.twins.one_call import TwinOfOneCall
from keras_hybrid.quantization.twins.roundings_around import rounding_after, rounding_before

PROBABILITY = (0.0, 255 / 256)  # TFLite's fixed range of SOFTMAX and LOGISTIC
TANH = (-1.0, 127 / 128)  # and of TANH
_LEAST = 1e-30  # whose logarithm is finite, and the logarithm's slope


def logarithm_of(x, training: bool | None):
    """log(x) of what may be rounded to 0, as an integer's look-up has it; in training finite.

    Its range clips the logarithm of 0 on the way there; on the way back 0 times infinity would make
    all gradients NaN.
    """
    return ops.log(ops.maximum(x, _LEAST) if training else x)


class Composite(TwinOfOneCall):
    """What the twins share: named quantisers for what is computed inside.

    Args:
        activation_quantizer: a TFMOT `Quantizer` for ranges that are learned, or its serialized
            form; None for `MovingAverageQuantizer`.
        squares_limits: None, or what a calibration clipped the range of `squares` to.
    """

    def __init__(self, *args, activation_quantizer=None, squares_limits=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.activation_quantizer = (
            None if activation_quantizer is None else tfmot.deserialize(activation_quantizer)
        )
        self.squares_limits = squares_limits

    def _learned(self, name, symmetric=False, limits=None):
        return _built(tfmot.learned(self.activation_quantizer, symmetric), name, limits)

    def get_config(self):
        quantizer = self.activation_quantizer
        squares = getattr(self, "squares", None)
        return {
            **super().get_config(),
            "activation_quantizer": None if quantizer is None else tfmot.serialize(quantizer),
            "squares_limits": self.squares_limits if squares is None else squares.limits,
        }


def fixed_quantizer(name, bounds):
    """A built `FakeQuantize` of TFLite's fixed range."""
    return _built(tfmot.fixed(*bounds), name)


def _built(quantizer, name, limits=None):
    layer = FakeQuantize(quantizer, limits=limits, name=name)
    layer.build(None)  # in the layer that it is in, so that weights are there when they are loaded
    return layer


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedLayerNormalization(Composite, LeanLayerNormalization):
    """`LeanLayerNormalization` in int8.

    The reciprocal square root is exp(-log(variance) / 2): two look-ups in tables of 256, and a
    logarithm's grid has the same relative error for small and large variances. Epsilon is added in
    training only: a variance that int8 tells from 0 is far above it.
    """

    # The mean is subtracted from values on a grid of their own: a finer one than this part of
    # theirs would be of no use, and is beyond what kernels can rescale by.
    MEAN_RANGE = 1 / 16

    def build(self, input_shape):
        super().build(input_shape)
        if not self.zero_mean:
            self.mean = self._learned("mean", symmetric=True)
            self.centered = self._learned("centered", symmetric=True)
        self.squares = self._learned("squares", limits=self.squares_limits)
        self.squares.summed_axes = (-1,)
        self.variance = self._learned("variance")
        self.logarithm = self._learned("logarithm")
        self.exponent = self._learned("exponent")
        self.inverse = self._learned("inverse")
        if self.scale or self.center:
            self.normalized = self._learned("normalized")
        if self.scale:
            self.factors = self._learned("factors")
        if self.center:
            self.offsets = self._learned("offsets")
        if self.scale and self.center:
            self.scaled = self._learned("scaled")

    def call(self, inputs, training=None):
        self.check_training(training)
        x = inputs
        learning = training or self.squares.observer is not None
        if not self.zero_mean:
            mean = self._rounded_mean(x, learning, training)
            centered = x - mean
            if not learning:
                roundings = rounding_before(self), self.mean
                centered = rounded_total_of((x, mean), roundings, self.centered, centered, -1)
            x = self.centered(centered, training=training)
        rounding = rounding_before(self) if self.zero_mean else self.centered
        unit = product_of_steps(rounding, rounding)
        squares = self.squares(x * x, training=training, unit=unit)
        variance = self._mean(squares)
        if not learning:
            variance = self._as_integers(variance, squares, self.squares, self.variance)
        variance = self.variance(variance, training=training)
        if learning:
            variance = variance + self.epsilon
        logarithm = self.logarithm(ops.log(variance), training=training)
        exponent = self.exponent(logarithm * -0.5, training=training)
        x = x * self.inverse(ops.exp(exponent), training=training)
        unit = product_of_steps(rounding, self.inverse)
        if self.scale:
            x = self.normalized(x, training=training, unit=unit)
            x = x * self.factors(self.gamma, training=training)
            unit = product_of_steps(self.normalized, self.factors)
        if self.center:
            rounding = self.scaled if self.scale else self.normalized
            x = rounding(x, training=training, unit=unit)
            offsets = self.offsets(self.beta, training=training)
            if training or count_calls(self) != 1:
                return x + offsets
            after = rounding_after(self)
            return rounded_total_of((x, offsets), (rounding, self.offsets), after, x + offsets, 1)
        return x if training else rounded_product(self, x, unit)

    def _mean(self, x):
        """The mean over the channels."""
        return ops.mean(x, axis=-1, keepdims=True)

    def _as_integers(self, mean, x, before, after):
        """The mean of x over the channels as the file's kernel rounds it."""
        return rounded_mean(mean, x.shape[-1], before, after)

    def _rounded_mean(self, x, learning, training):
        mean = self._mean(x)
        if not learning:
            return self.mean(self._as_integers(mean, x, rounding_before(self), self.mean))
        both = ops.concatenate([mean, x * self.MEAN_RANGE], axis=-1)
        return self.mean(both, training=training)[..., :1]


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedTwoSlopeReLU(Composite, TwoSlopeReLU):
    """`TwoSlopeReLU` in int8: both products on one grid, so that their maximum is exact.

    The grid is that of the maximum: what it clips of either product is never the greater one.
    `first_scale` is expected to be 1: a range does what clipping and scaling did. The output is
    rounded already.
    """

    def build(self, input_shape):
        super().build(input_shape)
        if self.first_scale != 1:
            self.rescaled = self._learned("rescaled")
        self.lines = self._learned("lines")

    @property
    def output_rounding(self):
        """What rounds the output."""
        return self.lines

    def call(self, inputs, training=None):
        features, first, second = inputs
        if self.first_scale != 1:
            first = self.rescaled(first * self.first_scale, training=training)
        if features.shape[0] != 1:  # a single image's slopes broadcast as they are
            shape = (-1,) + (1,) * (len(features.shape) - 2) + (features.shape[-1],)
            first, second = ops.reshape(first, shape), ops.reshape(second, shape)
        first, second = features * first, features * second
        if training or self.lines.observer is not None:
            return self.lines(ops.maximum(first, second), training=training)
        map_, *slopes = (rounding_before(self, number=number) for number in range(3))
        if self.first_scale != 1:
            slopes[0] = self.rescaled
        units = [product_of_steps(map_, x) for x in slopes]
        lines = [self.lines(x, unit=u) for x, u in zip((first, second), units, strict=True)]
        return ops.maximum(*lines)
