"""What is computed in float inside of a quantised model, and what keeps the converter to it."""

import keras
import numpy as np
from keras import ops

from keras_hybrid.keras_private import computes_for_keras
from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.twins.engine_rounding import (
    product_of_steps,
    rounded_floats,
    rounded_product,
)
from keras_hybrid.quantization.twins.roundings_around import rounding_before

# A product with it, or a leaky ReLU of this slope, is a float guard: it keeps what follows in
# float, and export takes it out of the file, which is as exact without.
GUARD_FACTOR = float(np.float32(1 + 2**-20))
ALMOST_NOTHING = 2**-18  # 1 with it rounds to 1 in int8, and is not simplified away
LONGEST_SUM = 512  # that TensorFlow's kernel adds up without a break


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
        if computes_for_keras():
            return inputs
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            return inputs
        return ops.leaky_relu(inputs, negative_slope=GUARD_FACTOR)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_hybrid")
class FloatConv2D(keras.layers.Conv2D):
    """`Conv2D` in float inside of a quantised model, added up in the order of the file's kernel.

    XNNPACK begins with the bias and adds product by product, each rounded with the sum (fused
    multiply-add); TensorFlow's convolutions of several pixels add in another order and the bias
    last, so that three sums in four differ in the last bit, and one in a hundred thousand is
    rounded to another integer next. A 1 x 1 convolution of TensorFlow adds as XNNPACK does: this
    layer gives it each output's pixels, a one for the bias before them.

    Input and output: as `Conv2D`'s.
    """

    def call(self, inputs, training=False):
        fields = int(np.prod(self.kernel.shape[:-1]))
        if (
            training
            or self.groups > 1
            or fields >= LONGEST_SUM
            or self.data_format != "channels_last"
            or not computes_for_keras()
        ):
            return super().call(inputs)
        outputs = ops.conv(self._seen(inputs), self._joined_kernel(), data_format="channels_last")
        if self.activation is not None:
            outputs = self.activation(outputs)
        return rounded_floats(self, outputs)

    def _seen(self, inputs):
        """(batch, h, w, 1 + rows * columns * channels) of one and what each output reads."""
        if self.kernel_size != (1, 1) or self.strides != (1, 1):
            inputs = ops.image.extract_patches(
                inputs,
                self.kernel_size,
                strides=self.strides,
                dilation_rate=self.dilation_rate,
                padding=self.padding,
                data_format="channels_last",
            )
        return ops.concatenate([ops.ones_like(inputs[..., :1]), inputs], axis=-1)

    def _joined_kernel(self):
        """(1, 1, 1 + rows * columns * channels, filters) of bias and kernel."""
        kernel = ops.reshape(self.kernel, (1, 1, -1, self.filters))
        bias = self.bias if self.use_bias else ops.zeros((self.filters,), kernel.dtype)
        return ops.concatenate([ops.reshape(bias, (1, 1, 1, -1)), kernel], axis=2)


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

    Args:
        number: which of those of one value, from 0: of equal ones the converter would make one.

    Input and output: any shape.
    """

    def __init__(self, number: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.number = number

    def call(self, inputs, training=None):
        factor = 1 + (self.number + 1) * ALMOST_NOTHING
        outputs = inputs * factor
        unit = None if training else product_of_steps(rounding_before(self))
        if unit is None:
            return outputs
        return rounded_product(self, outputs, unit * np.float32(factor / 255))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "number": self.number}
