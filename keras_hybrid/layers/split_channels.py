"""Cuts the channels of a tensor into equal parts."""

import keras
from keras import ops


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
