"""Scaled dot-product attention without projections, over tokens and feature maps alike."""

import math

import keras
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
        weights = self.attention_weights(query, key)
        attended = ops.matmul(weights, self._to_heads(value))
        return self._from_heads(attended, query)

    def attention_weights(self, query, key):
        """The weights that the values are averaged with; they sum to 1 along the last axis.

        Returns (batch, groups * num_heads, N of query, N of key), where groups are MobileViT's
        positions, iFormer's windows, or 1.
        """
        scale = self.scale or (query.shape[-1] // self.num_heads) ** -0.5
        scores = ops.matmul(
            self._to_heads(query) * scale, ops.transpose(self._to_heads(key), (0, 1, 3, 2))
        )
        if scores.shape[-1] == 1:
            return scores * 0 + 1  # a lone key has all the weight; Keras' softmax would warn
        # Half precision holds neither large scores nor the sum of thousands of weights.
        weights = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        return ops.cast(weights, scores.dtype)

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
