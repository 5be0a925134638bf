"""Twins in the spelling that costs an NPU least: the same numbers, by other operators.

An NPU reduces along rows and columns quickly, and along channels one channel at a time; sums of
channels are convolutions. Cycles are those of Arm's compiler for Ethos-U85-256 (Vela 5.2).
"""

import math

import keras
import numpy as np
from keras import ops

from keras_hybrid.keras_private import computes_for_keras
from keras_hybrid.layers.attention_heads import flat, zeros_between_heads
from keras_hybrid.quantization.twins.attention import NEGLIGIBLE, QuantizedDotProductAttention
from keras_hybrid.quantization.twins.composites import (
    QuantizedLayerNormalization,
    fixed_quantizer,
    logarithm_of,
)
from keras_hybrid.quantization.twins.engine_rounding import rounded_constant_sums, rounded_product

BRICK = 16  # channels that an NPU takes at once
MOST_KEYS = 16  # of attention to tokens that is spelled out
LEAST_QUERIES = 512  # likewise; of fewer, softmax takes an NPU less long than its parts
MOST_SLICES = 64  # of attention that is computed sequence by sequence and head by head
# Likewise, queries, keys and values together: half of the fast memory, the other half of which is
# for what is computed. Of more, Vela 5.2 plans as much as fits to the byte, and then does not place
# it ("Failed to allocate tensors").
MOST_VALUES = 192 * 2**10
LONG_ROW = 64  # from so many keys on, softmax takes an NPU longer than its parts


@keras.saving.register_keras_serializable("keras_hybrid")
class NpuLayerNormalization(QuantizedLayerNormalization):
    """`QuantizedLayerNormalization` with means as 1x1 convolutions.

    Of four axes, MEAN over the channels is not an operator of Ethos-U85 at all; of fewer it takes
    three cycles a value; a convolution takes sixteen values a cycle or more.
    """

    def _mean(self, x):
        return _channel_sums(x, np.full((x.shape[-1], 1), 1 / x.shape[-1]))

    def _as_integers(self, mean, x, before, after):
        return rounded_constant_sums(x, mean, 1 / x.shape[-1], before, after)


@keras.saving.register_keras_serializable("keras_hybrid")
class NpuDotProductAttention(QuantizedDotProductAttention):
    """`QuantizedDotProductAttention` without reductions over channels.

    The greatest of a long row's scores is that of its blocks' greatest (0.15 million cycles in
    place of 4.2 for 16 times 256 rows of 256); of few queries, scores are computed with the pixels
    as rows (40 thousand cycles in place of 139 for 3,136 pixels and 6 queries). Softmax over few
    tokens is spelled out for all heads at once, each score compared with those of the other tokens
    (65 thousand cycles in place of 480 for 3,136 pixels and 3 tokens).

    Among pixels, each head of each sequence is computed by itself: heads are cut out of the
    channels without transposing (0.6 million cycles in place of 2.7 for the products of 16 times
    256 rows of 256), and what is computed of one lies in fast memory. Ranges are those of all heads
    together.
    """

    long_row = LONG_ROW

    def build(self, input_shape):
        super().build(input_shape)
        query, key, _ = input_shape
        if self._zeros(query, key) == "query" and self._is_long(query, key):
            self.masked_query = self._learned("masked_query", symmetric=True)
        many = None not in query[1:-1] and math.prod(query[1:-1]) >= LEAST_QUERIES
        few = self._zeros(query, key) == "key" and key[1] <= MOST_KEYS
        self.spelled_out = many and few and not self.float_softmax
        if self.spelled_out:
            self.shifted = self._learned("shifted", limits=(NEGLIGIBLE, 0.0))
            self.exponentials = fixed_quantizer("exponentials", (0.0, 1.0))
            self.inverse_sum = self._learned("inverse_sum")
            self.inverse_logarithm = self._learned("inverse_logarithm")
            self.inverse_exponent = self._learned("inverse_exponent")
            self.inverse = self._learned("inverse")

    def takes_queries_on_the_right(self, query, key, value) -> bool:
        """Whether they stand on the right of a matrix product, given three `KerasTensor`s."""
        if not self._is_long(query.shape, key.shape):
            return False
        zeros = self._zeros(query.shape, key.shape)
        return zeros == "query" or (self.num_heads > 1 and self._in_slices((query, key, value)))

    def call(self, inputs, training=None):
        learning = training or self.scores is None or self.scores.observer is not None
        if learning or computes_for_keras() or not self._in_slices(inputs):
            return super().call(inputs, training=training)
        return self._by_head(*inputs)  # for the file: the same numbers by a thousand operators

    def _in_slices(self, inputs):
        """Whether each head of each sequence is computed by itself."""
        query, key, _ = inputs
        if self.float_softmax or self.window_size or self._zeros(query.shape, key.shape):
            return False
        if any(None in x.shape[1:] for x in inputs):
            return False
        if sum(math.prod(x.shape[1:]) for x in inputs) > MOST_VALUES:
            return False
        return self._positions(query) * self.num_heads <= MOST_SLICES

    def _positions(self, x):
        """How many sequences there are."""
        return x.shape[1 if self.positions_first else 2] if self.separate_positions else 1

    def _by_head(self, query, key, value):
        """Attention among pixels, sequence by sequence and head by head; all ranges are known."""
        sequences = []
        for position in range(self._positions(query)):
            parts = [self._sequence(x, position) for x in (query, key, value)]
            heads = [
                self._of_head(*(self._head(x, head) for x in parts), (query, key, value))
                for head in range(self.num_heads)
            ]
            sequences.append(ops.concatenate(heads, axis=-1) if len(heads) > 1 else heads[0])
        if self.separate_positions:
            return ops.stack(sequences, axis=1 if self.positions_first else 2)
        return ops.reshape(sequences[0], (-1, *ops.shape(query)[1:-1], value.shape[-1]))

    def _of_head(self, query, key, value, inputs):
        """Attention of one head of one sequence, (batch, N, c) each."""
        scores = self._product(query, key)
        if not self._is_long(inputs[0].shape, inputs[1].shape):
            return self._attend(scores, value, inputs, False)
        scores = self._scaled_scores(scores, inputs[0], False)
        if self.num_heads == 1:  # wide heads, whose product is not worth computing again
            greatest = self._greatest(scores)
            return self._average(self._exponentials(scores, greatest, False), value, False)
        # Once more with the keys as rows, which an NPU finds the greatest of in no time; and takes
        # it from the scores as it computes them.
        by_key = self._scaled_scores(self._product(key, query), inputs[0], False)
        greatest = ops.reshape(ops.max(by_key, axis=1), (-1, query.shape[1], 1))
        return self._average(self._exponentials(scores, greatest, False), value, False)

    def _sequence(self, x, position):
        """(batch, ..., C) -> (batch, N, C): one of its sequences."""
        if not self.separate_positions:
            return flat(x)
        return x[:, position] if self.positions_first else x[:, :, position]

    def _head(self, x, head):
        """(batch, N, C) -> (batch, N, C / heads): one of its heads."""
        channels = x.shape[-1] // self.num_heads
        return x if self.num_heads == 1 else x[..., head * channels : (head + 1) * channels]

    def _greatest(self, scores):
        length = scores.shape[-1]
        width = _block_width(length)
        x = ops.reshape(scores, (1, -1, length // width, width))
        x = ops.max(x, axis=2)  # (1, rows, width)
        x = ops.max(ops.transpose(x, (0, 2, 1)), axis=1)  # (1, rows)
        return ops.reshape(x, (-1, *scores.shape[1:-1], 1))

    def _sum(self, x):
        if len(x.shape) == 3:
            return ops.sum(x, axis=-1, keepdims=True)
        return _channel_sums(x, np.ones((x.shape[-1], 1)))

    def _sum_as_integers(self, x, before, after):
        if len(x.shape) == 3:
            return super()._sum_as_integers(x, before, after)
        return rounded_constant_sums(x, self._sum(x), 1.0, before, after)

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
        logarithm = self.inverse_logarithm(logarithm_of(total, training), training=training)
        exponent = self.inverse_exponent(logarithm * -1.0, training=training)
        x = x * self.inverse(ops.exp(exponent), training=training)
        x = self.weights_(x, training=training)
        attended = ops.matmul(x, values)
        if not training:
            attended = rounded_product(self, attended, self._unit_of_values())
        return ops.reshape(attended, (-1, *axes, value.shape[-1]))

    def _scores_of(self, pixels, keys, query, training):
        return self._scaled_scores(self._product(pixels, keys), query, training)

    def _rolled(self, keys, distance):
        """The keys of each head, later ones first: (batch, heads * M, C)."""
        length, channels = keys.shape[1:]
        x = ops.reshape(keys, (-1, self.num_heads, length // self.num_heads, channels))
        x = ops.concatenate([x[:, :, distance:], x[:, :, :distance]], axis=2)
        return ops.reshape(x, (-1, length, channels))


def queries_on_the_right(step) -> tuple[int, ...]:
    """Number of the queries among the inputs of a step of attention, where they are to be quantised
    around 0, as keys are.

    XNNPACK takes what stands on the right of a matrix product around 0 alone. Else TensorFlow
    Lite's own kernel computes it, which rounds twice, and two of a hundred scores differ: of
    Mobile-Former-52M, trained on digits, Keras and its file were at 29.5 dB, and are at 35.8.
    """
    from keras_hybrid.surgery.steps import config_of  # not for who imports the package alone

    config = step.config or config_of(step.operation)
    attention = NpuDotProductAttention.from_config(config)
    inputs = (keras.KerasTensor(value.shape) for value in step.inputs)
    return (0,) if attention.takes_queries_on_the_right(*inputs) else ()


def _channel_sums(x, kernel):
    """x times a constant matrix over its channels, as a 1x1 convolution."""
    axes = tuple(ops.shape(x)[1:-1])
    if len(axes) < 2:
        x = ops.reshape(x, (-1, *axes, *(2 - len(axes)) * (1,), x.shape[-1]))
    kernel = ops.convert_to_tensor(kernel[None, None], dtype=x.dtype)
    x = ops.conv(x, kernel, data_format="channels_last")
    return ops.reshape(x, (-1, *axes, kernel.shape[-1]))


def _block_width(length: int) -> int:
    """How wide blocks of a row are: of its divisors, the one that takes the fewest cycles."""
    divisors = [width for width in range(1, length + 1) if length % width == 0]
    return min(divisors, key=lambda width: length // width * -(-width // BRICK) + width / 4)
