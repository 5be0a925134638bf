"""DY-ReLU after its hard sigmoid has been folded into the layers that compute the slopes."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class TwoSlopeReLU(keras.layers.Layer):
    """Maximum of two lines through the origin, max(x * first * first_scale, x * second).

    Args:
        first_scale: factor on the first slope.

    Inputs: features (batch, ..., C) and two slopes (batch, C) each. Output: (batch, ..., C).

    Raises:
        ValueError: when the slopes are not as many as the channels.

    Reference: as `DynamicReLU`, which it stands in for in fused models.
    """

    def __init__(self, first_scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.first_scale = first_scale

    def build(self, input_shape):
        features, *slopes = input_shape
        if len(slopes) != 2 or any(slope[-1] != features[-1] for slope in slopes):
            raise ValueError(
                "Two slopes a channel are expected. "
                f"Received: features {tuple(features)}, slopes {[tuple(s) for s in slopes]}"
            )

    def call(self, inputs):
        features, first, second = inputs
        first = first * self.first_scale
        if features.shape[0] != 1:  # a single image's slopes broadcast as they are
            shape = (-1,) + (1,) * (len(features.shape) - 2) + (features.shape[-1],)
            first, second = ops.reshape(first, shape), ops.reshape(second, shape)
        return ops.maximum(features * first, features * second)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        return {**super().get_config(), "first_scale": self.first_scale}
