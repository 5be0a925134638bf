"""DY-ReLU: a piecewise linear activation whose slopes depend on the image."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class DynamicReLU(keras.layers.Layer):
    """Maximum of two lines through the origin, their slopes given per image and channel.

    With h = hard_sigmoid(coefficients) in two halves h1, h2 along the channels, the slopes are
    (h1 - 0.5) * 2 + 1 = 2 h1 and (h2 - 0.5) * 2 = 2 h2 - 1.

    Inputs: features (batch, ..., C) and coefficients (batch, 2 C), before the hard sigmoid.
    Output: (batch, ..., C).

    Raises:
        ValueError: when the coefficients are not twice as many as the channels.

    Reference: Mobile-Former, Section 3.3, "Mobile sub-block" (https://arxiv.org/abs/2108.05895);
    Dynamic ReLU (https://arxiv.org/abs/2003.10027), here without intercepts as in the checkpoints.
    """

    def build(self, input_shape):
        features, coefficients = input_shape
        if coefficients[-1] != 2 * features[-1]:
            raise ValueError(
                "Two coefficients a channel are expected. "
                f"Received: features {tuple(features)}, coefficients {tuple(coefficients)}"
            )

    def call(self, inputs):
        features, coefficients = inputs
        channels = features.shape[-1]
        slopes = ops.hard_sigmoid(coefficients) * 2.0
        slopes = ops.reshape(slopes, (-1,) + (1,) * (len(features.shape) - 2) + (2 * channels,))
        first, second = ops.split(slopes, 2, axis=-1)
        return ops.maximum(features * first, features * (second - 1.0))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])
