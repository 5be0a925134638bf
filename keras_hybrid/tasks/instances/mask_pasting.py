"""Masks of boxes laid into their images: on the host, in NumPy."""

import numpy as np

THRESHOLD = 0.5


def paste_masks(
    masks: np.ndarray,
    boxes: np.ndarray,
    height: int,
    width: int,
    threshold: float = THRESHOLD,
) -> np.ndarray:
    """Which pixels of an image each object has.

    Args:
        masks: (n, h, w), from 0 to 1: what is in each box.
        boxes: (n, 4), corners in pixels of the image.
        height: of the image, in pixels.
        width: likewise.
        threshold: a pixel from it on is the object's.

    Returns: (n, height, width), truth values. A pixel's center is looked up between the mask's,
        with zeros around it; nothing is outside of its box.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3.1, "Inference".
    """
    boxes = np.asarray(boxes, "float32").reshape(-1, 4)
    pasted = np.zeros((len(boxes), height, width), bool)
    for one, mask, (x1, y1, x2, y2) in zip(pasted, masks, boxes, strict=True):
        if x2 <= x1 or y2 <= y1:
            continue
        mask = np.asarray(mask, "float32")
        top, rows = _weights(y1, y2, height, mask.shape[0])
        left, columns = _weights(x1, x2, width, mask.shape[1])
        inside = rows @ mask @ columns.T >= threshold
        one[top : top + len(rows), left : left + len(columns)] = inside
    return pasted


def _weights(start, end, size, cells):
    """The first pixel of an interval, and what each pixel takes of the cells: (pixels, cells)."""
    first, last = max(0, int(np.floor(start))), min(size, int(np.ceil(end)))
    pixels = np.arange(first, max(first, last), dtype="float32")
    places = (pixels + 0.5 - start) / (end - start) * cells - 0.5
    near = 1 - np.abs(places[:, None] - np.arange(cells, dtype="float32"))
    return first, np.maximum(near, 0)
