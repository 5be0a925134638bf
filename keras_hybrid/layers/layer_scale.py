"""Layer scale: a learned factor per channel on a residual branch."""

import keras


@keras.saving.register_keras_serializable("keras_hybrid")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned factor `gamma`.

    Args:
        initial_value: value that every factor starts from.

    Input and output: (batch, ..., channels).

    Reference: Going deeper with Image Transformers, Section 2 (https://arxiv.org/abs/2103.17239).
    """

    def __init__(self, initial_value: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_value),
        )

    def call(self, inputs):
        return inputs * self.gamma

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "initial_value": self.initial_value}
