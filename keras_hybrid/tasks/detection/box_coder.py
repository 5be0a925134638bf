"""Boxes as offsets from anchors, and back."""

from dataclasses import dataclass

import keras
from keras import ops


@dataclass(frozen=True)
class BoxCoder:
    """Writes boxes as offsets of center and size from anchors.

    Attributes:
        center_scale: an offset of 1 moves the center by so many sides of the anchor.
        size_scale: an offset of 1 changes the side by this factor's exponential.
        size_limit: the sides' exponents stay between minus this and this; None for no limit.
    """

    center_scale: float
    size_scale: float
    size_limit: float | None = None

    def encode(self, boxes, anchors):
        """Corners x1, y1, x2, y2 (..., 4) and anchors (..., 4), centers and sizes -> offsets.

        Boxes must have an area.
        """
        x1, y1, x2, y2 = _columns(boxes)
        x, y, width, height = _columns(anchors)
        return ops.stack(
            [
                ((x1 + x2) / 2 - x) / width / self.center_scale,
                ((y1 + y2) / 2 - y) / height / self.center_scale,
                ops.log((x2 - x1) / width) / self.size_scale,
                ops.log((y2 - y1) / height) / self.size_scale,
            ],
            axis=-1,
        )

    def decode(self, offsets, anchors):
        """Offsets (..., 4) and anchors (..., 4), centers and sizes -> corners x1, y1, x2, y2."""
        dx, dy, dw, dh = _columns(offsets)
        x, y, width, height = _columns(anchors)
        dw, dh = (self._limited(side * self.size_scale) for side in (dw, dh))
        x = x + dx * self.center_scale * width
        y = y + dy * self.center_scale * height
        half_width, half_height = ops.exp(dw) * width / 2, ops.exp(dh) * height / 2
        return ops.stack(
            [x - half_width, y - half_height, x + half_width, y + half_height], axis=-1
        )

    def _limited(self, exponent):
        if self.size_limit is None:
            return exponent
        return ops.clip(exponent, -self.size_limit, self.size_limit)


def corners(boxes):
    """Centers and sizes (..., 4) -> corners x1, y1, x2, y2."""
    x, y, width, height = _columns(boxes)
    return ops.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)


def _columns(boxes):
    boxes = ops.convert_to_tensor(boxes)
    if not keras.backend.is_float_dtype(boxes.dtype):
        boxes = ops.cast(boxes, "float32")
    return [boxes[..., index] for index in range(4)]
