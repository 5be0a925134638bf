"""Logits stretched to an image's size and their best class, strip by strip.

All of a picture's logits at once would be 629 MB for ADE20K's classes at 512 x 2048 pixels.
"""

import numpy as np

STRIP = 32  # rows of the result at once


def labels_of(logits: np.ndarray, sizes: list[tuple[int, int, str]]) -> np.ndarray:
    """The best class of each pixel after resizing.

    Args:
        logits: (h, w, classes).
        sizes: (height, width, interpolation) of each resize, in order; the last is the result's.

    Returns: (height, width) of class numbers, uint8 where they fit beside 255, else uint16.
    """
    height, width, classes = logits.shape
    rows, columns = np.eye(height, dtype="float32"), np.eye(width, dtype="float32")
    for new_height, new_width, interpolation in sizes:
        rows = _weights(len(rows), new_height, interpolation) @ rows
        columns = _weights(len(columns), new_width, interpolation) @ columns
    labels = np.empty((len(rows), len(columns)), "uint8" if classes <= 255 else "uint16")
    for top in range(0, len(rows), STRIP):
        strip = rows[top : top + STRIP]
        used = np.flatnonzero(strip.any(axis=0))
        first, last = used[0], used[-1] + 1
        x = strip[:, first:last] @ logits[first:last].reshape(last - first, -1)
        x = x.reshape(len(strip), width, classes)
        labels[top : top + STRIP] = np.matmul(columns, x).argmax(-1)
    return labels


def _weights(old, new, interpolation):
    """(new, old): what each new row takes of the old ones."""
    if interpolation == "nearest":
        places = (np.arange(new) * old // new).astype("float64")
    elif interpolation == "bilinear_aligned":
        places = np.arange(new) * ((old - 1) / max(new - 1, 1))
    else:
        places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)))
    return weights.astype("float32")
