"""Quantised twins of sums, products, averages, resizes, constants: what integers make of them."""

import math

import keras
import numpy as np

from keras_hybrid.keras_private import count_calls
from keras_hybrid.layers import ResizeToReference
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.twins.engine_rounding import (
    counted_product,
    product_of_steps,
    rounded_averages,
    rounded_between_pixels,
    rounded_mean,
    rounded_product,
    rounded_total,
)
from keras_hybrid.quantization.twins.plain import MatrixProduct, Resize
from keras_hybrid.quantization.twins.roundings_around import rounding_after, rounding_before


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedAdd(keras.layers.Add):
    """`keras.layers.Add`, rounded as the file's kernel does where it is not trained."""

    sign = 1

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        return outputs if training else rounded_total(self, inputs, outputs, self.sign)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedSubtract(keras.layers.Subtract):
    """`keras.layers.Subtract`, likewise."""

    sign = -1

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        return outputs if training else rounded_total(self, inputs, outputs, self.sign)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedMultiply(keras.layers.Multiply):
    """`keras.layers.Multiply`, likewise."""

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        if training or len(inputs) != 2:
            return outputs
        unit = product_of_steps(*(rounding_before(self, number=number) for number in range(2)))
        return rounded_product(self, outputs, unit)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedMatrixProduct(MatrixProduct):
    """`MatrixProduct` of integers, likewise."""

    def call(self, inputs, training=None):
        if training or count_calls(self) != 1:
            return super().call(inputs)
        roundings = [rounding_before(self, number=number) for number in range(2)]
        outputs, counts = counted_product(*self.sides(inputs), roundings)
        return rounded_product(self, outputs, product_of_steps(*roundings), counts)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedAveragePooling2D(keras.layers.AveragePooling2D):
    """`keras.layers.AveragePooling2D` of integers: halves go away from the integer 0."""

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        return outputs if training else rounded_averages(self, outputs)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedGlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):
    """`keras.layers.GlobalAveragePooling2D` of integers, rounded as their mean is."""

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        if training or None in inputs.shape[1:] or count_calls(self) != 1:
            return outputs
        count = math.prod(inputs.shape[1:]) // math.prod(outputs.shape[1:])
        return rounded_mean(outputs, count, rounding_before(self), rounding_after(self))


class _ResizedInInt8:
    """What quantised resizes share: values between pixels are rounded as the file's kernel does."""

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        if training or self.interpolation == "nearest":
            return outputs
        x = inputs[0] if isinstance(inputs, list | tuple) else inputs
        return rounded_between_pixels(self, x, outputs)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedUpSampling2D(_ResizedInInt8, keras.layers.UpSampling2D):
    """`keras.layers.UpSampling2D` of integers."""


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedResizeToReference(_ResizedInInt8, ResizeToReference):
    """`ResizeToReference` of integers."""


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedResize(_ResizedInInt8, Resize):
    """`Resize` of integers."""


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedRescaling(keras.layers.Rescaling):
    """`keras.layers.Rescaling` by constants in int8, which several channels share a grid for.

    Of constants that are whole numbers, as pixels' means may be, the grid is that of integers.
    """

    def call(self, inputs, training=None):
        scale, offset = (np.asarray(x, "float32") for x in (self.scale, self.offset))
        x = inputs * _in_int8(scale) if np.any(scale != 1) else inputs
        if np.any(offset != 0):
            return x + _in_int8(offset)
        unit = product_of_steps(rounding_before(self))
        if training or unit is None or np.all(scale == 1) or not scale.any():
            return x
        return rounded_product(self, x, unit * _step_of(scale))


def _limits(constants):
    """The range of constants' grid, which holds 0."""
    low, high = min(float(constants.min()), 0.0), max(float(constants.max()), 0.0)
    if constants.size > 1 and high - low <= 255 and np.all(constants == np.round(constants)):
        high = low + 255.0
    return low, high


def _step_of(constants):
    """The distance of two values of constants' grid."""
    low, high = _limits(constants)
    return np.float32((high - low) / 255)


def _in_int8(constants):
    """Constants on a grid of 256 values that holds 0; a single one is on it as it is."""
    if constants.size == 1:
        return constants
    return tfmot.apply(tfmot.fixed(*_limits(constants)), constants, {}, update=False)
