"""Scaled dot-product attention without projections, over tokens and feature maps alike."""

import math

import keras
from keras import ops

from keras_hybrid.layers.attention_heads import (
    flat,
    from_heads,
    head_mask,
    repeated_between_heads,
    to_heads,
    weighted_sums,
    zeros_between_heads,
)


@keras.saving.register_keras_serializable("keras_hybrid")
class DotProductAttention(keras.layers.Layer):
    """softmax(scale * query key^T) value, in heads; it has no weights.

    Each input is a sequence (batch, N, C) or a feature map (batch, H, W, C), whose pixels are the
    sequence. A head is a contiguous part of the channels.

    Args:
        num_heads: number of heads, a divisor of the channels.
        scale: factor on the scores; None for (query channels / num_heads)^-0.5.
        separate_positions: inputs are `UnfoldPatches`' (batch, N, positions, C), and attention
            runs along N, for each position on its own (MobileViT).
        window_size: inputs are feature maps of one size, and attention runs inside windows of
            `window_size` x `window_size` pixels, which must divide the map (iFormer at high
            resolution). None for the whole map.
        positions_first: with `separate_positions`, whether inputs are (batch, positions, N, C).
        plain_operators: whether it takes only operators that TFLite has in int16, too: no quotient.

    Inputs: query (batch, ..., C), key (batch, ..., C) and value (batch, ..., D), key and value
    with the same axes between batch and channels. Output: the query's shape with D channels.

    Raises:
        ValueError: for channels that do not fit, and for contradictory arguments.

    Reference: Attention Is All You Need, Section 3.2.1 (https://arxiv.org/abs/1706.03762).
    """

    def __init__(
        self,
        num_heads: int = 1,
        scale: float | None = None,
        separate_positions: bool = False,
        window_size: int | None = None,
        plain_operators: bool = False,
        positions_first: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_heads < 1:
            raise ValueError(f"`num_heads` must be positive. Received: num_heads={num_heads}")
        if separate_positions and window_size:
            raise ValueError(
                "`separate_positions` and `window_size` exclude each other. "
                f"Received: separate_positions={separate_positions}, window_size={window_size}"
            )
        self.num_heads = num_heads
        self.scale = scale
        self.separate_positions = separate_positions
        self.window_size = window_size
        self.plain_operators = plain_operators
        self.positions_first = positions_first

    def build(self, input_shape):
        query, key, value = input_shape
        if query[-1] != key[-1] or any(shape[-1] % self.num_heads for shape in input_shape):
            raise ValueError(
                "Query and key need the same channels, and all channels must divide by "
                f"`num_heads`. Received: query {tuple(query)}, key {tuple(key)}, "
                f"value {tuple(value)}, num_heads={self.num_heads}"
            )
        if self.window_size and any(
            len(shape) != 4 or any(size and size % self.window_size for size in shape[1:3])
            for shape in input_shape
        ):
            raise ValueError(
                "Windowed attention needs feature maps of whole windows. "
                f"Received: query {tuple(query)}, key {tuple(key)}, value {tuple(value)}, "
                f"window_size={self.window_size}"
            )

    def call(self, inputs):
        query, key, value = inputs
        # Between a map and a handful of tokens, heads are told apart by zeros in the tokens:
        # that multiplies a small product by `num_heads`, and saves transposing the map.
        few_queries, few_keys = self.heads_by_zeros(query), self.heads_by_zeros(key)
        if few_queries and few_keys:
            if query.shape[1] == key.shape[1]:
                return self._attend_among_tokens(query, key, value)
            few_queries = query.shape[1] < key.shape[1]
        if few_queries:
            return self._attend_from_tokens(query, key, value)
        if few_keys:
            return self._attend_to_tokens(query, key, value)
        weights = self.attention_weights(query, key)
        attended = weighted_sums(weights, self.to_heads(value))
        return self.from_heads(attended, query)

    def attention_weights(self, query, key):
        """The weights that the values are averaged with; they sum to 1 along the last axis.

        Returns (batch, groups * num_heads, N of query, N of key), where groups are MobileViT's
        positions, iFormer's windows, or 1.
        """
        scores = ops.matmul(
            self._scaled(self.to_heads(query), query),
            ops.transpose(self.to_heads(key), (0, 1, 3, 2)),
        )
        return ops.cast(self.normalized(scores), scores.dtype)

    def normalized(self, scores):
        """softmax(scores)."""
        # Half precision holds neither large scores nor the sum of thousands of weights.
        scores = ops.cast(scores, "float32")
        return _weights_of_one(scores) if scores.shape[-1] == 1 else ops.softmax(scores, axis=-1)

    def heads_by_zeros(self, tokens) -> bool:
        """Whether zeros in these tokens tell heads apart: few tokens (batch, M, C), several heads.

        Args:
            tokens: a tensor or `KerasTensor`.
        """
        several_heads = self.num_heads > 1 and not self.separate_positions and not self.window_size
        return several_heads and len(tokens.shape) == 3 and tokens.shape[1] is not None

    def scale_of(self, query_shape) -> float:
        """The factor on the scores of a query of this shape."""
        return self.scale or (query_shape[-1] // self.num_heads) ** -0.5

    def to_heads(self, x):
        """(batch, ..., C) -> (batch, groups * num_heads, N, C / num_heads)."""
        return to_heads(
            x, self.num_heads, self.separate_positions, self.window_size, self.positions_first
        )

    def from_heads(self, x, query):
        """(batch, groups * num_heads, N, c) -> the query's axes with num_heads * c channels."""
        settings = self.separate_positions, self.window_size, self.positions_first
        return from_heads(x, query, self.num_heads, *settings)

    def _scaled(self, x, query):
        """`x` times the factor on the scores, where it is not 1."""
        scale = self.scale_of(query.shape)
        return x if scale == 1 else x * scale

    def _attend_among_tokens(self, query, key, value):
        """Few queries and keys: (batch, M, C) each -> (batch, M, D)."""
        heads, num_tokens = self.num_heads, query.shape[1]
        # Zeros in keys and values, which in Mobile-Former are the same tokens: with zeros in the
        # queries there would be more to compute and to sum up (1.1 to 1.2 times as long).
        keys = zeros_between_heads(key, self.num_heads)  # (batch, heads * M, C)
        values = keys if value is key else zeros_between_heads(value, self.num_heads)
        scores = ops.matmul(self._scaled(query, query), ops.transpose(keys, (0, 2, 1)))
        x = self.normalized(ops.reshape(scores, (-1, num_tokens, heads, num_tokens)))
        x = ops.reshape(x, (-1, num_tokens, heads * num_tokens))
        return ops.matmul(ops.cast(x, scores.dtype), values)  # (batch, M, D)

    def _attend_from_tokens(self, query, key, value):
        """Few queries: (batch, M, C), over keys and values of any axes -> (batch, M, D)."""
        num_tokens, channels = query.shape[1], value.shape[-1]
        query = self._scaled(
            zeros_between_heads(query, self.num_heads), query
        )  # (batch, heads * M, C)
        key, value = flat(key), flat(value)  # (batch, N, C), (batch, N, D)
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))  # (batch, heads * M, N)
        weights = self.normalized(scores)
        x = weighted_sums(ops.cast(weights, scores.dtype), value)  # (batch, heads * M, D)
        x = ops.reshape(x, (-1, self.num_heads, num_tokens, channels))
        return ops.sum(x * head_mask(x, self.num_heads), axis=1)  # (batch, M, D)

    def _attend_to_tokens(self, query, key, value):
        """Few keys: a query of any axes over (batch, M, C) -> the query's axes with D channels."""
        heads, num_tokens = self.num_heads, key.shape[1]
        length = math.prod(ops.shape(query)[1:-1])
        axes = tuple(ops.shape(query)[1:-1])
        keys = self._scaled(repeated_between_heads(key, heads), query)  # (batch, heads * M, C)
        if self.plain_operators:
            scores = ops.matmul(flat(query), ops.transpose(keys, (0, 2, 1)))
            x = self.normalized(ops.reshape(scores, (-1, length, heads, num_tokens)))
            x = ops.reshape(ops.cast(x, scores.dtype), (-1, length, heads * num_tokens))
            x = ops.matmul(x, zeros_between_heads(value, self.num_heads))  # (batch, N, D)
            return ops.reshape(x, (-1, *axes, value.shape[-1]))
        scores = ops.matmul(keys, ops.transpose(flat(query), (0, 2, 1)))
        # Softmax with the pixels last: one over few tokens, row by row, takes four times as long.
        x = ops.cast(ops.reshape(scores, (-1, heads, num_tokens, length)), "float32")
        if num_tokens == 1:
            x = _weights_of_one(x)
        else:
            x = ops.exp(x - ops.stop_gradient(ops.max(x, axis=2, keepdims=True)))
            x = x / ops.sum(x, axis=2, keepdims=True)  # (batch, heads, M, N)
        x = ops.reshape(ops.cast(x, scores.dtype), (-1, heads * num_tokens, length))
        x = ops.matmul(ops.transpose(x, (0, 2, 1)), zeros_between_heads(value, self.num_heads))
        return ops.reshape(x, (-1, *axes, value.shape[-1]))

    def multiply_adds(self, query, key, value):
        """Multiply-adds of both matrix products for one image, given the inputs' shapes."""
        queries, keys = (math.prod(shape[1:-1]) for shape in (query, key))
        if self.separate_positions:
            keys = key[2 if self.positions_first else 1]
        elif self.window_size:
            keys = self.window_size**2
        return queries * keys * (query[-1] + value[-1])

    def compute_output_shape(self, input_shape):
        query, _, value = input_shape
        return (*query[:-1], value[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "scale": self.scale,
            "separate_positions": self.separate_positions,
            "window_size": self.window_size,
            "plain_operators": self.plain_operators,
            "positions_first": self.positions_first,
        }


def _weights_of_one(scores):
    """Softmax over a single key: 1, whatever the score.

    The converter would write it as a difference and a quotient of one value with itself, which
    GPUs refuse.
    """
    return ops.clip(scores, 1.0, 1.0)


@keras.saving.register_keras_serializable("keras_hybrid")
class LearnedQueryAttention(keras.layers.Layer):
    """`DotProductAttention` whose queries are weights, the same for every image: for inference.

    The scores are a 1x1 convolution of the keys. As a matrix product with a constant on the left
    they would be what LiteRT's GPU engine does not take.

    Args:
        num_queries: number M of queries.
        num_heads: number of heads, a divisor of the channels.

    Inputs: key (batch, ..., C) and value (batch, ..., D), with the same axes between batch and
    channels. Output: (batch, M, D). The weight "queries", (C, heads * M), holds the scaled queries
    of one head after the other, each with zeros in the channels of the others.

    Reference: Mobile-Former (https://arxiv.org/abs/2108.05895), Equation 1, of the first block.
    """

    def __init__(self, num_queries: int, num_heads: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.num_queries = num_queries
        self.num_heads = num_heads

    def build(self, input_shape):
        key, value = input_shape
        if key[-1] % self.num_heads or value[-1] % self.num_heads:
            raise ValueError(
                "All channels must divide by `num_heads`. "
                f"Received: key {tuple(key)}, value {tuple(value)}, num_heads={self.num_heads}"
            )
        self.queries = self.add_weight(
            name="queries", shape=(key[-1], self.num_heads * self.num_queries)
        )

    def call(self, inputs):
        key, value = inputs
        kernel, columns = self.queries[None, None], self.num_heads * self.num_queries
        pixels = key if len(key.shape) == 4 else flat(key)[:, :, None]
        scores = flat(ops.conv(pixels, kernel, data_format="channels_last"))
        scores = ops.transpose(scores, (0, 2, 1))  # (batch, heads * M, N)
        weights = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        x = weighted_sums(ops.cast(weights, scores.dtype), flat(value))  # (batch, heads * M, D)
        x = ops.reshape(x, (-1, self.num_heads, columns // self.num_heads, value.shape[-1]))
        return ops.sum(x * head_mask(x, self.num_heads), axis=1)  # (batch, M, D)

    def compute_output_shape(self, input_shape):
        _, value = input_shape
        return (value[0], self.num_queries, value[-1])

    def get_config(self):
        own = {"num_queries": self.num_queries, "num_heads": self.num_heads}
        return {**super().get_config(), **own}
