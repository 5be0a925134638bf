"""RoIAlign where nothing has to be static: each box out of its own map, and its own window of it.

The layer multiplies every box's bins with whole maps of all levels, as a graph of static shapes
must; most of these products are with zeros. A box of the finest level is some 28 pixels wide in a
map of hundreds. On a CPU, outside of a graph, these windows alone are multiplied.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_hybrid.tasks.instances.roi_align import RoIAlign, bin_weights, levels_of

_MULTIPLE = 8  # of which windows are as many pixels high and wide
_LARGEST_COPY = 2**24  # numbers of windows at once


def is_on_cpu(x: Any) -> bool:
    """Whether a tensor's numbers are at hand for NumPy, on any backend."""
    return "cpu" in str(getattr(x, "device", "cpu")).lower()


def align_on_host(layer: RoIAlign, inputs: Sequence[Any]) -> Any:
    """What the layer gives, to float32's rounding.

    Args:
        layer: whose bins and strides are meant.
        inputs: as of the layer, tensors with values.

    Returns: (batch, n, bins, bins, C), a tensor.
    """
    *maps, boxes = (keras.ops.convert_to_numpy(x).astype("float32") for x in inputs)
    levels = levels_of(keras.ops.convert_to_tensor(boxes), len(maps))
    levels = keras.ops.convert_to_numpy(levels)
    found = np.zeros((*boxes.shape[:2], layer.bins, layer.bins, maps[0].shape[-1]), "float32")
    for level, (x, stride) in enumerate(zip(maps, layer.strides, strict=True)):
        images, places = np.nonzero(levels == level)
        if len(places):
            own = boxes[images, places] / np.float32(stride) - np.float32(0.5)
            found[images, places] = _of_level(x, images, own, layer.bins)
    return keras.ops.convert_to_tensor(found)


def _of_level(x, images, boxes, bins):
    """(n, bins, bins, C) of a map (batch, H, W, C): of each box's image and pixels."""
    found = np.zeros((len(boxes), bins, bins, x.shape[-1]), "float32")
    rows, top, down = _windows(boxes[:, 1], boxes[:, 3], bins, x.shape[1])
    columns, left, across = _windows(boxes[:, 0], boxes[:, 2], bins, x.shape[2])
    for height, width in sorted(set(zip(down.tolist(), across.tolist(), strict=True))):
        alike = np.flatnonzero((down == height) & (across == width))
        at_once = max(1, _LARGEST_COPY // (height * width * x.shape[-1]))
        for start in range(0, len(alike), at_once):
            some = alike[start : start + at_once]
            cut = np.empty((len(some), height, width, x.shape[-1]), "float32")
            of_rows = np.empty((len(some), bins, height), "float32")
            of_columns = np.empty((len(some), 1, bins, width), "float32")
            for i, one in enumerate(some):
                y, z = slice(top[one], top[one] + height), slice(left[one], left[one] + width)
                cut[i] = x[images[one], y, z]
                of_rows[i], of_columns[i, 0] = rows[one, :, y], columns[one, :, z]
            cut = keras.ops.convert_to_tensor(cut.reshape(len(some), height, -1))
            cut = keras.ops.matmul(of_rows, cut)
            cut = keras.ops.reshape(cut, (len(some), bins, width, -1))
            cut = keras.ops.matmul(of_columns, cut)
            found[some] = keras.ops.convert_to_numpy(cut)
    return found


def _windows(start, end, bins, size):
    """What each bin takes of each pixel, (n, bins, size); where it takes any: starts and lengths.

    Lengths are rounded up, so that few of them differ.
    """
    start, end = keras.ops.convert_to_tensor(start), keras.ops.convert_to_tensor(end)
    weights = keras.ops.convert_to_numpy(bin_weights(start, end, bins, size))
    counts = (weights != 0).any(axis=1)
    first = counts.argmax(axis=1)
    length = np.where(counts.any(axis=1), size - counts[:, ::-1].argmax(axis=1) - first, 1)
    length = np.minimum(-(-length // _MULTIPLE) * _MULTIPLE, size)
    return weights, np.minimum(first, size - length), length
