"""Channel shuffle: lets the groups of a grouped convolution exchange channels."""

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
