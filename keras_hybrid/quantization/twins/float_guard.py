"""Layers that compute nothing: they keep the converter from computing, or from merging."""

import keras
import numpy as np
from keras import ops

from keras_hybrid.layers import DotProductAttention

# The product with it marks the place; a file without the product is as exact as one with it.
MARK = float(np.float32(1 + 2**-20))
ONE = float(np.float32(1 + 2**-18))  # rounds to 1 in int8, and is not simplified away


@keras.saving.register_keras_serializable("keras_hybrid")
class StayFloat(keras.layers.Layer):
    """Keeps the converter from computing what follows in int8; nothing else.

    Between two roundings, the converter makes all it can int8, kernels that nothing rounds
    included. A leaky ReLU of a slope that is all but 1 keeps it from that, and unlike a product it
    cannot be made part of a kernel. `export_tflite` removes it from the file.

    Input and output: any shape.
    """

    def call(self, inputs):
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            return inputs
        return ops.leaky_relu(inputs, negative_slope=MARK)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_hybrid")
class FloatDotProductAttention(DotProductAttention):
    """`DotProductAttention` in float inside of a quantised model; it computes the same.

    The converter rounds a softmax to 1/256 by itself where values are only moved about behind it.
    """

    def _normalized(self, scores):
        return ops.leaky_relu(super()._normalized(scores), negative_slope=MARK)


@keras.saving.register_keras_serializable("keras_hybrid")
class Requantize(keras.layers.Layer):
    """Between two roundings on different grids: the converter would leave the second one out.

    Input and output: any shape.
    """

    def call(self, inputs):
        return inputs * ONE

    def compute_output_shape(self, input_shape):
        return input_shape
