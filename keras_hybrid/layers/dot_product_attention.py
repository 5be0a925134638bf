"""Scaled dot-product attention without projections, over tokens and feature maps alike."""

import math

import keras
import numpy as np
from keras import ops


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
        few_queries, few_keys = self._heads_by_zeros(query), self._heads_by_zeros(key)
        if few_queries and few_keys:
            if query.shape[1] == key.shape[1]:
                return self._attend_among_tokens(query, key, value)
            few_queries = query.shape[1] < key.shape[1]
        if few_queries:
            return self._attend_from_tokens(query, key, value)
        if few_keys:
            return self._attend_to_tokens(query, key, value)
        weights = self.attention_weights(query, key)
        attended = ops.matmul(weights, self._to_heads(value))
        return self._from_heads(attended, query)

    def attention_weights(self, query, key):
        """The weights that the values are averaged with; they sum to 1 along the last axis.

        Returns (batch, groups * num_heads, N of query, N of key), where groups are MobileViT's
        positions, iFormer's windows, or 1.
        """
        scores = ops.matmul(
            self._scaled(self._to_heads(query), query),
            ops.transpose(self._to_heads(key), (0, 1, 3, 2)),
        )
        return ops.cast(self._normalized(scores), scores.dtype)

    def _normalized(self, scores):
        """softmax(scores)."""
        # Half precision holds neither large scores nor the sum of thousands of weights.
        return ops.softmax(ops.cast(scores, "float32"), axis=-1)

    def _heads_by_zeros(self, tokens):
        several_heads = self.num_heads > 1 and not self.separate_positions and not self.window_size
        return several_heads and len(tokens.shape) == 3 and tokens.shape[1] is not None

    def _scaled(self, x, query):
        """x times the factor on the scores, where it is not 1."""
        scale = self.scale or (query.shape[-1] // self.num_heads) ** -0.5
        return x if scale == 1 else x * scale

    def _attend_among_tokens(self, query, key, value):
        """Few queries and keys: (batch, M, C) each -> (batch, M, D)."""
        heads, num_tokens = self.num_heads, query.shape[1]
        # Zeros in keys and values, which in Mobile-Former are the same tokens: with zeros in the
        # queries there would be more to compute and to sum up (1.1 to 1.2 times as long).
        keys = self._zeros_between_heads(key)  # (batch, heads * M, C)
        values = keys if value is key else self._zeros_between_heads(value)
        scores = ops.matmul(self._scaled(query, query), ops.transpose(keys, (0, 2, 1)))
        x = self._normalized(ops.reshape(scores, (-1, num_tokens, heads, num_tokens)))
        x = ops.reshape(x, (-1, num_tokens, heads * num_tokens))
        return ops.matmul(ops.cast(x, scores.dtype), values)  # (batch, M, D)

    def _attend_from_tokens(self, query, key, value):
        """Few queries: (batch, M, C), over keys and values of any axes -> (batch, M, D)."""
        num_tokens, channels = query.shape[1], value.shape[-1]
        query = self._scaled(self._zeros_between_heads(query), query)  # (batch, heads * M, C)
        key, value = self._flat(key), self._flat(value)  # (batch, N, C), (batch, N, D)
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))  # (batch, heads * M, N)
        weights = self._normalized(scores)
        x = ops.matmul(ops.cast(weights, scores.dtype), value)  # (batch, heads * M, D)
        x = ops.reshape(x, (-1, self.num_heads, num_tokens, channels))
        return ops.sum(x * self._head_mask(x), axis=1)  # (batch, M, D)

    def _attend_to_tokens(self, query, key, value):
        """Few keys: a query of any axes over (batch, M, C) -> the query's axes with D channels."""
        heads, num_tokens = self.num_heads, key.shape[1]
        length = math.prod(ops.shape(query)[1:-1])
        axes = tuple(ops.shape(query)[1:-1])
        keys = self._scaled(self._zeros_between_heads(key), query)  # (batch, heads * M, C)
        scores = ops.matmul(keys, ops.transpose(self._flat(query), (0, 2, 1)))
        # Softmax with the pixels last: one over few tokens, row by row, takes four times as long.
        x = ops.cast(ops.reshape(scores, (-1, heads, num_tokens, length)), "float32")
        x = ops.exp(x - ops.stop_gradient(ops.max(x, axis=2, keepdims=True)))
        x = x / ops.sum(x, axis=2, keepdims=True)  # (batch, heads, M, N)
        x = ops.reshape(ops.cast(x, scores.dtype), (-1, heads * num_tokens, length))
        x = ops.matmul(ops.transpose(x, (0, 2, 1)), self._zeros_between_heads(value))
        return ops.reshape(x, (-1, *axes, value.shape[-1]))

    def _flat(self, x):
        """(batch, ..., C) -> (batch, N, C)."""
        if len(x.shape) == 3:
            return x
        return ops.reshape(x, (-1, math.prod(ops.shape(x)[1:-1]), x.shape[-1]))

    def _head_mask(self, x):
        """(1, heads, 1, C): 1 where a channel belongs to a head, else 0."""
        channels = x.shape[-1] // self.num_heads
        mask = np.repeat(np.eye(self.num_heads), channels, axis=1)[None, :, None]
        return ops.convert_to_tensor(mask, dtype=x.dtype)

    def _zeros_between_heads(self, tokens):
        """(batch, M, C) -> (batch, heads * M, C), each head with zeros in the others' channels."""
        num_tokens, channels = tokens.shape[1:]
        x = tokens
        if x.shape[0] != 1:  # a single image's tokens broadcast as they are
            x = ops.reshape(x, (-1, 1, num_tokens, channels))
        x = x * self._head_mask(x)  # (batch, heads, M, C)
        return ops.reshape(x, (-1, self.num_heads * num_tokens, channels))

    def multiply_adds(self, query, key, value):
        """Multiply-adds of both matrix products for one image, given the inputs' shapes."""
        queries, keys = (math.prod(shape[1:-1]) for shape in (query, key))
        if self.separate_positions:
            keys = key[1]
        elif self.window_size:
            keys = self.window_size**2
        return queries * keys * (query[-1] + value[-1])

    def _to_heads(self, x):
        """(batch, ..., C) -> (batch, groups * num_heads, N, C / num_heads)."""
        heads, channels = self.num_heads, x.shape[-1]
        if self.separate_positions:
            positions = x.shape[2]
            x = ops.reshape(x, (-1, ops.shape(x)[1], positions * heads, channels // heads))
            return ops.transpose(x, (0, 2, 1, 3))  # (batch, positions * heads, N, c)
        if self.window_size:
            x = self._to_windows(x)  # (batch, windows, N, C)
            if heads == 1:
                return x
            windows, length = ops.shape(x)[1], self.window_size**2
            x = ops.reshape(x, (-1, windows, length, heads, channels // heads))
            x = ops.transpose(x, (0, 1, 3, 2, 4))  # (batch, windows, heads, N, c)
            return ops.reshape(x, (-1, windows * heads, length, channels // heads))
        length = math.prod(ops.shape(x)[1:-1])
        if heads == 1:
            return ops.reshape(x, (-1, 1, length, channels))
        x = ops.reshape(x, (-1, length, heads, channels // heads))
        return ops.transpose(x, (0, 2, 1, 3))  # (batch, heads, N, c)

    def _from_heads(self, x, query):
        """(batch, groups * num_heads, N, c) -> the query's axes with num_heads * c channels."""
        heads, channels = self.num_heads, self.num_heads * x.shape[-1]
        axes = tuple(ops.shape(query)[1:-1])
        if self.window_size:
            rows, columns = (size // self.window_size for size in axes)
            if heads > 1:
                length = self.window_size**2
                x = ops.reshape(x, (-1, rows * columns, heads, length, channels // heads))
                x = ops.transpose(x, (0, 1, 3, 2, 4))  # (batch, windows, N, heads, c)
            return self._from_windows(x, rows, columns, channels)
        if self.separate_positions or heads > 1:
            x = ops.transpose(x, (0, 2, 1, 3))  # (batch, N, groups * heads, c)
        return ops.reshape(x, (-1, *axes, channels))

    def _to_windows(self, x):
        """(batch, H, W, C) -> (batch, windows, window_size^2, C)."""
        size, channels = self.window_size, x.shape[-1]
        rows, columns = (axis // size for axis in ops.shape(x)[1:3])
        x = ops.reshape(x, (-1, rows, size, columns, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (batch, rows, columns, size, size, C)
        return ops.reshape(x, (-1, rows * columns, size * size, channels))

    def _from_windows(self, x, rows, columns, channels):
        """(batch, windows, window_size^2, ...) -> (batch, H, W, C)."""
        size = self.window_size
        x = ops.reshape(x, (-1, rows, columns, size, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (batch, rows, size, columns, size, C)
        return ops.reshape(x, (-1, rows * size, columns * size, channels))

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
        }
