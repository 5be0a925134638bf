"""Attention weights from scratch: NumPy on what the projections are given, one way a family."""

import keras
import numpy as np


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attend(query, key, heads):
    """(batch, N, C), (batch, M, C) -> (batch, heads, N, M), head by head."""
    width = query.shape[-1] // heads
    return np.stack(
        [
            softmax(
                query[..., h * width : (h + 1) * width]
                @ key[..., h * width : (h + 1) * width].swapaxes(-1, -2)
                / np.sqrt(width)
            )
            for h in range(heads)
        ],
        axis=1,
    )


def inputs_of(model, layers, images):
    """What the layers of these names are given (their first input), as float64 arrays."""
    given = [model.get_layer(name).input for name in layers]
    given = [tensors[0] if isinstance(tensors, list) else tensors for tensors in given]
    values = keras.Model(model.input, given)(images, training=False)
    values = keras.tree.flatten(values)
    return [np.asarray(keras.ops.convert_to_numpy(value), "float64") for value in values]


def dense(model, name, x):
    kernel, bias = (np.asarray(w, "float64") for w in model.get_layer(name).get_weights())
    return x @ kernel + bias


def convolution(model, name, x):
    """A 1x1 convolution and its batch norm."""
    (kernel,) = (np.asarray(w, "float64") for w in model.get_layer(name).get_weights())
    norm = model.get_layer(f"{name}_norm")
    scale, offset, mean, variance = (np.asarray(w, "float64") for w in norm.get_weights())
    x = x @ kernel[0, 0]
    return (x - mean) / np.sqrt(variance + norm.epsilon) * scale + offset


def pixels(x):
    """(batch, H, W, C) -> (batch, H * W, C)."""
    return x.reshape(len(x), -1, x.shape[-1])


def mobile_former(model, images, prefix):
    """{name of the layer: weights} of a block's bridge and Former."""
    names = [f"{prefix}_{part}" for part in ("mobile_to_former", "former", "former_to_mobile")]
    x, tokens, former_tokens, out_tokens, out_x = inputs_of(
        model,
        [
            # The first convolution of Mobile sees the map that Mobile->Former sees.
            f"{prefix}_mobile_expand",
            f"{names[0]}_query",
            f"{names[1]}_query",
            f"{names[2]}_key",
            f"{names[2]}_attention",
        ],
        images,
    )
    tokens = np.broadcast_to(tokens, (len(images), *tokens.shape[1:]))
    shapes = x.shape[1:3], out_x.shape[1:3]
    query, former_query = (
        dense(model, f"{name}_query", given)
        for name, given in zip(names, (tokens, former_tokens), strict=False)
    )
    key = dense(model, f"{names[2]}_key", out_tokens)
    return {
        f"{names[0]}_attention": _unflatten(attend(query, pixels(x), 2), None, shapes[0]),
        f"{names[1]}_attention": attend(former_query, former_tokens, 4),
        f"{names[2]}_attention": _unflatten(attend(pixels(out_x), key, 2), shapes[1], None),
    }


def _unflatten(weights, queries, keys):
    batch, heads, n, m = weights.shape
    return weights.reshape(batch, heads, *(queries or (n,)), *(keys or (m,)))


def mobilevit(model, images, name, patch_size, map_size):
    """One transformer layer's weights, unfolded by loops: (batch, heads, H, W, rows, columns)."""
    (x,) = inputs_of(model, [f"{name}_query"], images)
    query, key = (dense(model, f"{name}_{part}", x) for part in ("query", "key"))
    rows, columns = (-(-size // patch_size) for size in map_size)
    height, width = rows * patch_size, columns * patch_size
    weights = np.zeros((len(x), 4, height, width, rows, columns))
    for place in range(patch_size**2):
        dy, dx = divmod(place, patch_size)
        found = attend(query[:, :, place], key[:, :, place], 4)  # (batch, heads, N, N)
        for patch in range(rows * columns):
            row, column = (patch // columns) * patch_size + dy, (patch % columns) * patch_size + dx
            weights[:, :, row, column] = found[:, :, patch].reshape(len(x), 4, rows, columns)
    return weights


def iformer(model, images, name, heads=1, window_size=None, map_size=None):
    """One attention layer's weights: (batch, heads, H, W, H, W), or windows' (..., size, size)."""
    (x,) = inputs_of(model, [f"{name}_query"], images)
    query, key = (convolution(model, f"{name}_{part}", x) for part in ("query", "key"))
    shape = x.shape[1:3]
    if window_size is None:
        return _unflatten(attend(pixels(query), pixels(key), heads), shape, shape)
    size, images = window_size, len(images)
    rows, columns = (-(-length // size) for length in map_size)
    weights = np.zeros((images, heads, rows * size, columns * size, size, size))
    found = attend(pixels(query), pixels(key), heads)  # (images * windows, heads, N, N)
    for number, window in enumerate(found):
        image, place = divmod(number, rows * columns)
        top, left = (size * x for x in divmod(place, columns))
        window = window.reshape(heads, size, size, size, size)
        weights[image, :, top : top + size, left : left + size] = window
    return weights
