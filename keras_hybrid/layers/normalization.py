"""Layer norm in the spelling that converts to the fewest operators."""

import math

import keras
from keras import ops

# Up to so many rows an operator costs what it costs to call it: there, fewer are better.
FEW_ROWS = 16


@keras.saving.register_keras_serializable("keras_hybrid")
class LeanLayerNormalization(keras.layers.LayerNormalization):
    """Layer norm over the last axis, its weights and configuration those of Keras' layer.

    Keras' own spelling converts to up to nine operators, this one to five or six, and two more for
    scale and offset where they could not be folded into what follows.

    Args:
        zero_mean: whether the input is known to have mean 0 along its last axis, so that no mean
            has to be subtracted.
        plain_operators: whether it takes only operators that TFLite has in int16, too: no squared
            difference.

    Input and output: (batch, ..., channels).

    Raises:
        ValueError: for another axis than the last.

    Reference: Layer Normalization (https://arxiv.org/abs/1607.06450).
    """

    def __init__(self, zero_mean: bool = False, plain_operators: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.zero_mean = zero_mean
        self.plain_operators = plain_operators

    def build(self, input_shape):
        super().build(input_shape)
        if self.axis not in (-1, [-1], len(input_shape) - 1, [len(input_shape) - 1]):
            raise ValueError(
                f"`axis` must be the last one. Received: axis={self.axis}, "
                f"input_shape={tuple(input_shape)}"
            )

    def call(self, inputs):
        # Half precision does not hold the squares.
        x = ops.cast(inputs, "float32")
        if not self.zero_mean:
            x = x - ops.mean(x, axis=-1, keepdims=True)
        x = x * ops.rsqrt(self._variance_and_epsilon(x))
        if self.scale:
            x = x * ops.cast(self.gamma, "float32")
        if self.center:
            x = x + ops.cast(self.beta, "float32")
        return ops.cast(x, self.compute_dtype)

    def _variance_and_epsilon(self, x):
        """The variance of values of mean 0, plus epsilon: (batch, ..., 1)."""
        rows = x.shape[1:-1]
        few = None not in rows and math.prod(rows) <= FEW_ROWS
        if few and not self.plain_operators:
            # Squares around sqrt(epsilon) rather than 0, as the mean is 0: one operator less. On
            # a map, XNNPACK takes 1.4 times as long for squared differences as for x * x and a sum.
            return ops.mean(ops.square(x - math.sqrt(self.epsilon)), axis=-1, keepdims=True)
        return ops.mean(x * x, axis=-1, keepdims=True) + self.epsilon

    def get_config(self):
        own = {"zero_mean": self.zero_mean, "plain_operators": self.plain_operators}
        return {**super().get_config(), **own}
