"""Twins in the spelling that costs an NPU least: the same numbers, by other operators.

An NPU reduces along rows and columns quickly, and along channels one channel at a time; sums of
channels are convolutions. Cycles are those of Arm's compiler for Ethos-U85-256 (Vela 5.2).
"""

import keras
import numpy as np
from keras import ops

from keras_hybrid.layers.attention_heads import flat, zeros_between_heads
from keras_hybrid.quantization.twins.attention import NEGLIGIBLE, QuantizedDotProductAttention
from keras_hybrid.quantization.twins.composites import (
    QuantizedLayerNormalization,
    fixed_quantizer,
)

BRICK = 16  # channels that an NPU takes at once
MOST_KEYS = 16  # of attention to tokens that is spelled out


@keras.saving.register_keras_serializable("keras_hybrid")
class NpuLayerNormalization(QuantizedLayerNormalization):
    """`QuantizedLayerNormalization` with means as 1x1 convolutions.

    Of four axes, MEAN over the channels is not an operator of Ethos-U85 at all; of fewer it takes
    three cycles a value; a convolution takes sixteen values a cycle or more.
    """

    def _mean(self, x):
        return _channel_sums(x, np.full((x.shape[-1], 1), 1 / x.shape[-1]))


@keras.saving.register_keras_serializable("keras_hybrid")
class NpuDotProductAttention(QuantizedDotProductAttention):
    """`QuantizedDotProductAttention` without reductions over channels.

    The greatest of a long row's scores is that of its blocks' greatest (0.15 million cycles in
    place of 4.2 for 16 times 256 rows of 256); of few queries, scores are computed with the pixels
    as rows (40 thousand cycles in place of 139 for 3,136 pixels and 6 queries). Softmax over few
    tokens is spelled out for all heads at once, each score compared with those of the other tokens
    (65 thousand cycles in place of 480 for 3,136 pixels and 3 tokens).
    """

    def build(self, input_shape):
        super().build(input_shape)
        query, key, _ = input_shape
        self.spelled_out = (
            self._zeros(query, key) == "key" and not self.float_softmax and key[1] <= MOST_KEYS
        )
        if self.spelled_out:
            self.shifted = self._learned("shifted", limits=(NEGLIGIBLE, 0.0))
            self.exponentials = fixed_quantizer("exponentials", (0.0, 1.0))
            self.inverse_sum = self._learned("inverse_sum")
            self.inverse_logarithm = self._learned("inverse_logarithm")
            self.inverse_exponent = self._learned("inverse_exponent")
            self.inverse = self._learned("inverse")

    def _greatest(self, scores):
        length = scores.shape[-1]
        width = _block_width(length)
        x = ops.reshape(scores, (1, -1, length // width, width))
        x = ops.max(x, axis=2)  # (1, rows, width)
        x = ops.max(ops.transpose(x, (0, 2, 1)), axis=1)  # (1, rows)
        return ops.reshape(x, (-1, *scores.shape[1:-1], 1))

    def _sum(self, x):
        return _channel_sums(x, np.ones((x.shape[-1], 1)))

    def _from_tokens(self, query, key, value, training):
        if not self._is_long(query.shape, key.shape):
            return super()._from_tokens(query, key, value, training)
        masked = self.masked_query(zeros_between_heads(query, self.num_heads), training=training)
        scores = self._product(flat(key), masked)  # (batch, N, heads * M)
        scores = self._scaled_scores(scores, query, training)
        x = self._exponentials(scores, ops.max(scores, axis=1, keepdims=True), training)
        x = self._average(ops.transpose(x, (0, 2, 1)), flat(value), training)
        return self._heads_of(x, query, value, training)

    def _to_tokens(self, query, key, value, training):
        if not self.spelled_out:
            return super()._to_tokens(query, key, value, training)
        heads, num_tokens = self.num_heads, key.shape[1]
        axes = tuple(ops.shape(query)[1:-1])
        keys = self.masked_key(zeros_between_heads(key, heads), training=training)
        values = self.masked_value(zeros_between_heads(value, heads), training=training)
        pixels = flat(query)
        scores = greatest = self._scores_of(pixels, keys, query, training)  # (batch, N, heads * M)
        for distance in range(1, num_tokens):
            others = self._scores_of(pixels, self._rolled(keys, distance), query, training)
            greatest = ops.maximum(greatest, others)
        x = self._exponentials(scores, greatest, training)
        same_head = np.kron(np.eye(heads), np.ones((num_tokens, num_tokens)))
        total = self.inverse_sum(_channel_sums(x, same_head), training=training)
        logarithm = self.inverse_logarithm(ops.log(total), training=training)
        exponent = self.inverse_exponent(logarithm * -1.0, training=training)
        x = x * self.inverse(ops.exp(exponent), training=training)
        x = self.weights_(x, training=training)
        return ops.reshape(ops.matmul(x, values), (-1, *axes, value.shape[-1]))

    def _scores_of(self, pixels, keys, query, training):
        return self._scaled_scores(self._product(pixels, keys), query, training)

    def _rolled(self, keys, distance):
        """The keys of each head, later ones first: (batch, heads * M, C)."""
        length, channels = keys.shape[1:]
        x = ops.reshape(keys, (-1, self.num_heads, length // self.num_heads, channels))
        x = ops.concatenate([x[:, :, distance:], x[:, :, :distance]], axis=2)
        return ops.reshape(x, (-1, length, channels))


def _channel_sums(x, kernel):
    """x times a constant matrix over its channels, as a 1x1 convolution."""
    axes = tuple(ops.shape(x)[1:-1])
    if len(axes) == 1:
        x = ops.reshape(x, (-1, axes[0], 1, x.shape[-1]))
    kernel = ops.convert_to_tensor(kernel[None, None], dtype=x.dtype)
    x = ops.conv(x, kernel, data_format="channels_last")
    return ops.reshape(x, (-1, *axes, kernel.shape[-1]))


def _block_width(length: int) -> int:
    """How wide blocks of a row are: of its divisors, the one that takes the fewest cycles."""
    divisors = [width for width in range(1, length + 1) if length % width == 0]
    return min(divisors, key=lambda width: length // width * -(-width // BRICK) + width / 4)
