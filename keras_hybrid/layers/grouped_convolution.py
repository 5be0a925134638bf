"""Grouped convolution that every backend trains fast on every device."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with `groups`, computed as one group with zeros between the groups.

    Same arguments, weights and results. Keras on TensorFlow compiles grouped convolutions with XLA,
    which traces and trains more slowly on CPUs than a dense convolution of Mobile-Former's size.

    Input: (batch, H, W, channels). Output: (batch, H', W', filters).
    """

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, self._dense_kernel(kernel))

    def _dense_kernel(self, kernel):
        """(kh, kw, channels / groups, filters) -> (kh, kw, channels, filters)."""
        if self.groups == 1:
            return kernel
        group_channels = kernel.shape[2]
        group_of_input = np.arange(group_channels * self.groups) // group_channels
        group_of_output = np.arange(self.filters) // (self.filters // self.groups)
        mask = (group_of_input[:, None] == group_of_output[None]).astype("float32")
        repeated = ops.tile(kernel, (1, 1, self.groups, 1))
        return repeated * ops.cast(mask, kernel.dtype)
