"""Float guards: layers that compute nothing, and keep the converter from rounding or merging."""

import keras
import numpy as np
from keras import ops

from keras_hybrid.layers import DotProductAttention

# A product with it, or a leaky ReLU of this slope, is a float guard: it keeps what follows in
# float, and export takes it out of the file, which is as exact without.
GUARD_FACTOR = float(np.float32(1 + 2**-20))
ONE = float(np.float32(1 + 2**-18))  # rounds to 1 in int8, and is not simplified away


# The name is that of files saved before.
@keras.saving.register_keras_serializable("keras_hybrid", name="StayFloat")
class FloatGuard(keras.layers.Layer):
    """Keeps the converter from computing what follows in int8; nothing else.

    Between two roundings, the converter makes all it can int8, kernels that nothing rounds
    included. A leaky ReLU of a slope that is all but 1 keeps it from that, and unlike a product it
    cannot be made part of a kernel. `export_tflite` removes it from the file.

    Input and output: any shape.
    """

    def call(self, inputs):
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            return inputs
        return ops.leaky_relu(inputs, negative_slope=GUARD_FACTOR)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_hybrid")
class FloatDotProductAttention(DotProductAttention):
    """`DotProductAttention` in float inside of a quantised model; it computes the same.

    The converter rounds a softmax to 1/256 by itself where values are only rearranged after it.
    """

    def normalized(self, scores):
        return ops.leaky_relu(super().normalized(scores), negative_slope=GUARD_FACTOR)


@keras.saving.register_keras_serializable("keras_hybrid")
class Requantize(keras.layers.Layer):
    """Between two roundings on different grids: the converter would leave the second one out.

    Input and output: any shape.
    """

    def call(self, inputs):
        return inputs * ONE

    def compute_output_shape(self, input_shape):
        return input_shape
