"""Heads of attention: channels apart from each other, by transposing or by zeros between them."""

import functools
import itertools
import math

import numpy as np
from keras import ops

# LiteRT's GPU engine takes a matrix product with more rows on the right, and computes it wrongly.
LONGEST_PRODUCT = 32768


def weighted_sums(weights, values):
    """(..., M, N) and (..., N, C) -> (..., M, C): a matrix product, or several where N is long.

    Of the first map of a Mobile-Former at 512 x 512 px there are 65,536 positions. Each product has
    `LONGEST_PRODUCT` rows on its right at most, those of all groups counted, where sizes are known.
    """
    *groups, length, _ = values.shape
    groups = groups[1:]  # a file has one image
    if None in groups or length is None or math.prod(groups) * length <= LONGEST_PRODUCT:
        return ops.matmul(weights, values)
    pieces = -(-length // max(LONGEST_PRODUCT // math.prod(groups), 1))
    ends = [place * length // pieces for place in range(pieces + 1)]
    products = [
        ops.matmul(weights[..., begin:end], values[..., begin:end, :])
        for begin, end in itertools.pairwise(ends)
    ]
    return functools.reduce(ops.add, products)


def flat(x):
    """(batch, ..., C) -> (batch, N, C)."""
    if len(x.shape) == 3:
        return x
    return ops.reshape(x, (-1, math.prod(ops.shape(x)[1:-1]), x.shape[-1]))


def head_mask(x, num_heads: int):
    """(1, heads, 1, C): 1 where a channel belongs to a head, else 0; in the type of `x`."""
    channels = x.shape[-1] // num_heads
    mask = np.repeat(np.eye(num_heads), channels, axis=1)[None, :, None]
    return ops.convert_to_tensor(mask, dtype=x.dtype)


def zeros_between_heads(tokens, num_heads: int):
    """(batch, M, C) -> (batch, heads * M, C), each head with zeros in the others' channels."""
    num_tokens, channels = tokens.shape[1:]
    x = tokens
    if x.shape[0] != 1:  # a single image's tokens broadcast as they are
        x = ops.reshape(x, (-1, 1, num_tokens, channels))
    x = x * head_mask(x, num_heads)  # (batch, heads, M, C)
    return ops.reshape(x, (-1, num_heads * num_tokens, channels))


def repeated_between_heads(tokens, num_heads: int):
    """`zeros_between_heads` by repeating the tokens: there is no reshape at its end.

    TensorFlow Lite's converter moves such a reshape past a matrix product, of which the right side
    is then the same for all heads. LiteRT's GPU engine computes that wrongly, and does not say so,
    where the columns are no multiple of four: of 7 x 7 pixels, say.
    """
    num_tokens, channels = tokens.shape[1:]
    mask = np.kron(np.eye(num_heads), np.ones((num_tokens, channels // num_heads)))
    repeated = ops.concatenate([tokens] * num_heads, axis=1)  # (batch, heads * M, C)
    return repeated * ops.convert_to_tensor(mask[None], dtype=tokens.dtype)


def to_heads(
    x,
    num_heads: int,
    separate_positions: bool = False,
    window_size: int | None = None,
    positions_first: bool = False,
):
    """(batch, ..., C) -> (batch, groups * heads, N, C / heads).

    Args:
        x: sequence or feature map.
        num_heads: number of heads, each a contiguous part of the channels.
        separate_positions: as for `DotProductAttention`: groups are MobileViT's positions.
        window_size: as for `DotProductAttention`: groups are windows. Else there is one group.
        positions_first: as for `DotProductAttention`.
    """
    heads, channels = num_heads, x.shape[-1]
    if separate_positions and positions_first:
        positions, length = x.shape[1], ops.shape(x)[2]
        x = ops.reshape(x, (-1, length, heads, channels // heads))  # (batch * positions, ...)
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, positions * heads, length, channels // heads))
    if separate_positions:
        positions = x.shape[2]
        x = ops.reshape(x, (-1, ops.shape(x)[1], positions * heads, channels // heads))
        return ops.transpose(x, (0, 2, 1, 3))  # (batch, positions * heads, N, c)
    if window_size:
        x = _to_windows(x, window_size)  # (batch, windows, N, C)
        if heads == 1:
            return x
        windows, length = ops.shape(x)[1], window_size**2
        x = ops.reshape(x, (-1, windows, length, heads, channels // heads))
        x = ops.transpose(x, (0, 1, 3, 2, 4))  # (batch, windows, heads, N, c)
        return ops.reshape(x, (-1, windows * heads, length, channels // heads))
    length = math.prod(ops.shape(x)[1:-1])
    if heads == 1:
        return ops.reshape(x, (-1, 1, length, channels))
    x = ops.reshape(x, (-1, length, heads, channels // heads))
    return ops.transpose(x, (0, 2, 1, 3))  # (batch, heads, N, c)


def from_heads(
    x,
    query,
    num_heads: int,
    separate_positions: bool = False,
    window_size: int | None = None,
    positions_first: bool = False,
):
    """(batch, groups * heads, N, c) -> the query's axes with heads * c channels.

    Args:
        x: what `to_heads` with the same settings could have given.
        query: tensor of the axes wanted.
        num_heads: number of heads.
        separate_positions: whether groups are MobileViT's positions.
        window_size: side of the windows that the groups are; None without.
        positions_first: as for `DotProductAttention`.
    """
    heads, channels = num_heads, num_heads * x.shape[-1]
    axes = tuple(ops.shape(query)[1:-1])
    if separate_positions and positions_first:
        x = ops.reshape(x, (-1, heads, axes[1], channels // heads))  # (batch * positions, ...)
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, *axes, channels))
    if window_size:
        rows, columns = (size // window_size for size in axes)
        if heads > 1:
            length = window_size**2
            x = ops.reshape(x, (-1, rows * columns, heads, length, channels // heads))
            x = ops.transpose(x, (0, 1, 3, 2, 4))  # (batch, windows, N, heads, c)
        return _from_windows(x, rows, columns, window_size, channels)
    if separate_positions or heads > 1:
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch, N, groups * heads, c)
    return ops.reshape(x, (-1, *axes, channels))


def _to_windows(x, size):
    """(batch, H, W, C) -> (batch, windows, size^2, C)."""
    channels = x.shape[-1]
    rows, columns = (axis // size for axis in ops.shape(x)[1:3])
    x = ops.reshape(x, (-1, rows, size, columns, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (batch, rows, columns, size, size, C)
    return ops.reshape(x, (-1, rows * columns, size * size, channels))


def _from_windows(x, rows, columns, size, channels):
    """(batch, windows, size^2, ...) -> (batch, H, W, C)."""
    x = ops.reshape(x, (-1, rows, columns, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (batch, rows, size, columns, size, C)
    return ops.reshape(x, (-1, rows * size, columns * size, channels))
