"""Channels in another order, and in parts."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class ChannelShuffle(keras.layers.Layer):
    """Interleaves the channels of `groups` groups: channel (g, i) moves to (i, g).

    Args:
        groups: number of groups, a divisor of the channels.

    Input and output: (batch, ..., channels).

    Raises:
        ValueError: when built on channels that `groups` does not divide.

    Reference: ShuffleNet, Section 3.1 (https://arxiv.org/abs/1707.01083).
    """

    def __init__(self, groups: int, **kwargs):
        super().__init__(**kwargs)
        if groups < 1:
            raise ValueError(f"`groups` must be a positive integer. Received: groups={groups}")
        self.groups = groups

    def build(self, input_shape):
        if input_shape[-1] % self.groups:
            raise ValueError(
                f"`groups` must divide the channels. Received: groups={self.groups}, "
                f"input_shape={tuple(input_shape)}"
            )

    def call(self, inputs):
        shape = ops.shape(inputs)
        channels = inputs.shape[-1]
        # One leading axis keeps the transpose at rank 3.
        x = ops.reshape(inputs, (-1, self.groups, channels // self.groups))
        x = ops.transpose(x, (0, 2, 1))  # (positions, channels / groups, groups)
        return ops.reshape(x, shape)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


@keras.saving.register_keras_serializable("keras_hybrid")
class SplitChannels(keras.layers.Layer):
    """Cuts the last axis into `parts` equal parts.

    Args:
        parts: how many, a divisor of the channels.

    Input: (batch, ..., channels). Output: `parts` tensors (batch, ..., channels / parts).

    Raises:
        ValueError: when built on channels that `parts` does not divide.
    """

    def __init__(self, parts: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.parts = parts

    def build(self, input_shape):
        if input_shape[-1] % self.parts:
            raise ValueError(
                f"`parts` must divide the channels. Received: parts={self.parts}, "
                f"input_shape={tuple(input_shape)}"
            )

    def call(self, inputs):
        return list(ops.split(inputs, self.parts, axis=-1))

    def compute_output_shape(self, input_shape):
        return [(*input_shape[:-1], input_shape[-1] // self.parts)] * self.parts

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}
