"""Mobile-Former's global tokens, and the selection of one of them."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class GlobalTokens(keras.layers.Layer):
    """The learned (M, d) table of global tokens, the same for every image.

    Args:
        num_tokens: M.
        dim: d.

    Input: any tensor of the model, for its batch size. Output: (batch, M, d).

    Reference: Mobile-Former, Section 3.1 (https://arxiv.org/abs/2108.05895).
    """

    def __init__(self, num_tokens: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        if num_tokens < 1 or dim < 1:
            raise ValueError(
                "`num_tokens` and `dim` must be positive integers. "
                f"Received: num_tokens={num_tokens}, dim={dim}"
            )
        self.num_tokens = num_tokens
        self.dim = dim

    def build(self, input_shape):
        self.tokens = self.add_weight(
            name="tokens",
            shape=(self.num_tokens, self.dim),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )

    def call(self, inputs):
        return ops.broadcast_to(
            ops.cast(self.tokens, self.compute_dtype)[None],
            (ops.shape(inputs)[0], self.num_tokens, self.dim),
        )

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_tokens, self.dim)

    def get_config(self):
        return {**super().get_config(), "num_tokens": self.num_tokens, "dim": self.dim}


@keras.saving.register_keras_serializable("keras_hybrid")
class SelectToken(keras.layers.Layer):
    """Picks one token of a sequence.

    Args:
        index: which one.

    Input: (batch, M, d). Output: (batch, d).
    """

    def __init__(self, index: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.index = index

    def build(self, input_shape):
        if not 0 <= self.index < input_shape[1]:
            raise ValueError(
                f"`index` must be a token's number. Received: index={self.index}, "
                f"input_shape={tuple(input_shape)}"
            )

    def call(self, inputs):
        # A slice that keeps the axis, then a reshape: a slice that drops an axis leaves XNNPACK.
        token = inputs[:, self.index : self.index + 1]
        return ops.reshape(token, (-1, inputs.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def get_config(self):
        return {**super().get_config(), "index": self.index}
