"""Quantised twins of the layers with a kernel: convolutions and dense layers."""

import keras
import numpy as np
from keras import ops

from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.twins.biases import rounded_bias
from keras_hybrid.quantization.twins.constants import folded
from keras_hybrid.quantization.twins.engine_rounding import kernel_sums
from keras_hybrid.quantization.twins.frozen_norm import FrozenBatchNormalization
from keras_hybrid.quantization.twins.one_call import TwinOfOneCall


class QuantizedKernel(TwinOfOneCall):
    """What the twins share: a kernel that is rounded to int8's grid before it is used.

    Args:
        weight_quantizer: a TFMOT `Quantizer`, or its serialized form; None for
            `LastValueQuantizer`, per channel, symmetric, narrow range.
        frozen: whether the kernel's range stays as it is in training.
        batch_norm: a `FrozenBatchNormalization` of the outputs before the activation, or its
            configuration, for a layer without bias; None for none.

    Called with `place`, the number of a call, where it is called several times: biases are on a
    grid of their own in each.
    """

    is_of_all_calls = True

    def __init__(
        self,
        *args,
        weight_quantizer=None,
        frozen: bool = False,
        batch_norm: FrozenBatchNormalization | dict | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.weight_quantizer = (
            tfmot.per_channel_weights()
            if weight_quantizer is None
            else tfmot.deserialize(weight_quantizer)
        )
        self.frozen = frozen
        if isinstance(batch_norm, dict):
            batch_norm = FrozenBatchNormalization.from_config(batch_norm)
        if batch_norm is not None and self.use_bias:
            raise ValueError(
                "Batch norm has an offset: `use_bias` must be False. "
                f"Received: use_bias=True, batch_norm={batch_norm!r}, layer {self.name!r}"
            )
        self.batch_norm = batch_norm
        self.exact = False

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel_range = tfmot.build(
            self.weight_quantizer, self, "kernel", self._with_channels_last(self.kernel).shape
        )
        if self.batch_norm is not None:
            self.batch_norm.build(self.compute_output_shape(input_shape))

    def quantized_kernel(self, training=False):
        """The kernel as it is computed with, in the kernel's shape."""
        self.check_training(training)
        if self.exact:  # set for comparisons, in eager calls only
            return self._back(self._folded_kernel())
        return self._back(self._rounded(update=bool(training) and not self.frozen))

    def _rounded(self, update):
        kernel = folded(self._folded_kernel, self.weights[0])
        return tfmot.apply(self.weight_quantizer, kernel, self.kernel_range, update)

    def reset_range(self):
        """Has the kernel's range follow the kernel.

        A channel of zeros gets the greatest range among the others: of a range of 0, there is no
        step to round its bias to.
        """
        self._rounded(update=True)
        if {"min_var", "max_var"} <= set(self.kernel_range):
            low, high = (
                ops.convert_to_numpy(x)
                for x in tfmot.tensors(self.kernel_range, "min_var", "max_var")
            )
            self.kernel_range["min_var"].assign(fill_dead(low, -1.0))
            self.kernel_range["max_var"].assign(fill_dead(high, 1.0))

    def clip_range(self, shares):
        """Sets each channel's range to the share of its greatest value that errs least.

        Args:
            shares: to choose from.
        """
        if not {"min_var", "max_var"} <= set(self.kernel_range):
            return
        kernel = ops.convert_to_numpy(self._folded_kernel())
        kernel = kernel.reshape(-1, kernel.shape[-1])
        greatest = np.abs(kernel).max(0)
        best, least = greatest, np.full(greatest.shape, np.inf)
        for share in shares:
            step = np.maximum(greatest * share, 1e-30) / 127
            error = ((np.clip(np.round(kernel / step), -127, 127) * step - kernel) ** 2).sum(0)
            best = np.where(error < least, greatest * share, best)
            least = np.minimum(error, least)
        if self.kernel_range["max_var"].shape == best.shape:
            self.kernel_range["min_var"].assign(-best)
            self.kernel_range["max_var"].assign(best)

    def _folded_kernel(self):
        """The kernel in the file, not rounded: four axes, the last one of the output channels."""
        kernel = self._with_channels_last(self.kernel)
        return kernel if self.batch_norm is None else kernel * self.batch_norm.factor()

    def _with_channels_last(self, kernel):
        """The kernel with four axes, the last one that of the output channels."""
        return kernel

    def _back(self, kernel):
        return kernel

    # Keras' layers save kernel and bias alone.
    def save_own_variables(self, store):
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def _step(self):
        """The distance of two values of the kernel's grid, by channel; None without a grid."""
        if self.exact or not {"min_var", "max_var"} <= set(self.kernel_range):
            return None
        low, high = tfmot.tensors(self.kernel_range, "min_var", "max_var")
        # In float64: TensorFlow makes a division by a constant in a graph a product, of which the
        # last bit may be another.
        width = ops.cast(high, "float64") - ops.cast(low, "float64")
        return ops.cast(width / tfmot.num_steps(self.weight_quantizer), "float32")

    def _computed(self, operator, inputs, training, place):
        """What an operator makes of inputs and kernel, with bias and activation."""
        biased = self.use_bias or self.batch_norm is not None
        sums = None if training else kernel_sums(self, self._step, place)
        if sums is not None:
            outputs = sums.of(
                lambda x, kernel: operator(x, self._back(kernel)),
                inputs,
                self._rounded(update=False),
            )
            if biased:
                outputs = outputs + sums.in_units(self._rounded_bias(False, place))
            return sums.rounded(outputs, self.activation)
        outputs = operator(inputs, self.quantized_kernel(training))
        if biased:
            learning = bool(training) and not self.frozen  # there is no grid to keep to yet
            weight = self.bias if self.batch_norm is None else self.batch_norm.beta
            outputs = ops.add(outputs, folded(lambda: self._rounded_bias(learning, place), weight))
        return outputs if self.activation is None else self.activation(outputs)

    def _rounded_bias(self, learning, place):
        bias = self.bias if self.batch_norm is None else self.batch_norm.offset()
        return rounded_bias(self, bias, None if learning else self._step(), place)

    def get_config(self):
        return {
            **super().get_config(),
            "weight_quantizer": tfmot.serialize(self.weight_quantizer),
            "frozen": self.frozen,
            "batch_norm": None if self.batch_norm is None else self.batch_norm.get_config(),
        }


def fill_dead(limits: np.ndarray, otherwise: float) -> np.ndarray:
    """Limits of kernels' channels, those of 0 replaced by the one that is furthest from 0.

    Args:
        limits: the least values, or the greatest.
        otherwise: in their place where all are 0: -1 for the least, 1 for the greatest.
    """
    furthest = limits.flat[np.argmax(np.abs(limits))] if limits.size else 0.0
    return np.where(limits == 0, furthest or otherwise, limits)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedConv2D(QuantizedKernel, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with an int8 kernel, a scale for each output channel."""

    def call(self, inputs, training=None, place=None):
        return self._computed(self.convolution_op, inputs, training, place)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedDepthwiseConv2D(QuantizedKernel, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with an int8 kernel, a scale for each output channel."""

    def call(self, inputs, training=None, place=None):
        return self._computed(self._convolved, inputs, training, place)

    def _convolved(self, inputs, kernel):
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def _with_channels_last(self, kernel):
        height, width, channels, multiplier = kernel.shape
        return ops.reshape(kernel, (height, width, 1, channels * multiplier))

    def _back(self, kernel):
        return ops.reshape(kernel, self.kernel.shape)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedDense(QuantizedKernel, keras.layers.Dense):
    """`keras.layers.Dense` with an int8 kernel, a scale for each unit.

    Computed as a convolution of 1 x 1 pixels: of fully connected layers, the converter takes a
    trained range for the whole kernel only.
    """

    def call(self, inputs, training=None, place=None):
        axes = tuple(inputs.shape[1:-1])
        if None in axes:
            axes = tuple(ops.shape(inputs)[1:-1])
        x = inputs
        if len(axes) != 2:
            length = 1
            for axis in axes:
                length = length * axis
            x = ops.reshape(x, (-1, length, 1, inputs.shape[-1]))
        outputs = self._computed(self._convolved, x, training, place)
        if len(axes) != 2:
            outputs = ops.reshape(outputs, (-1, *axes, self.units))
        return outputs

    def _convolved(self, inputs, kernel):
        return ops.conv(inputs, kernel, padding="valid", data_format="channels_last")

    def _with_channels_last(self, kernel):
        return ops.reshape(kernel, (1, 1, *kernel.shape))
