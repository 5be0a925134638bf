"""The objects of an image, as data sets tell them, and padded lists of them for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image.

    Attributes:
        boxes: (n, 4), float32: corners x1, y1, x2, y2, in pixels.
        labels: (n,), int64, from 0.
        crowd: (n,), truth values: regions of many objects, which nothing is trained on and where
            no detection is wrong; None for none.
        areas: (n,), float32: of the objects in square pixels, by which average precision tells
            small from large; None for the boxes' areas.

    Raises:
        ValueError: for arrays that do not fit each other, or boxes that are not finite.
    """

    boxes: Any
    labels: Any
    crowd: Any = None
    areas: Any = None

    def __post_init__(self):
        boxes = np.asarray(self.boxes, "float32").reshape(-1, 4)
        labels = np.asarray(self.labels, "int64").reshape(-1)
        count = len(boxes)
        crowd = np.zeros(count, bool) if self.crowd is None else np.asarray(self.crowd, bool)
        sides = boxes[:, 2:] - boxes[:, :2]
        areas = sides.prod(axis=1) if self.areas is None else np.asarray(self.areas, "float32")
        lengths = {"labels": len(labels), "crowd": len(crowd), "areas": len(areas)}
        if any(length != count for length in lengths.values()):
            raise ValueError(
                f"As many labels, crowds and areas as boxes are expected. Received: {count} boxes, "
                + ", ".join(f"{length} {name}" for name, length in lengths.items())
            )
        if not np.isfinite(boxes).all():
            raise ValueError("Boxes must be finite. Received: some that are not")
        for name, value in (("boxes", boxes), ("labels", labels), ("crowd", crowd)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "areas", areas)

    def __len__(self):
        return len(self.labels)

    def trainable(self) -> "Objects":
        """Those that a network is trained on: no crowds, and none without an area."""
        kept = ~self.crowd & (self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1)
        return Objects(self.boxes[kept], self.labels[kept], areas=self.areas[kept])


def padded(objects: Sequence[Objects], count: int | None = None) -> dict[str, np.ndarray]:
    """What training takes of several images: lists of one length.

    Args:
        objects: of each image; crowds and boxes without an area are left out.
        count: the length; None for that of the image with the most.

    Returns: "boxes" (batch, count, 4), float32, and "labels" (batch, count), int32, -1 where there
        is no object.

    Raises:
        ValueError: for an image with more than `count` objects.
    """
    kept = [of_image.trainable() for of_image in objects]
    most = max((len(of_image) for of_image in kept), default=0)
    if count is None:
        count = max(most, 1)
    if most > count:
        raise ValueError(
            f"`count` must be that of the image with the most objects, {most}, or more. "
            f"Received: count={count}"
        )
    boxes = np.zeros((len(kept), count, 4), "float32")
    labels = np.full((len(kept), count), -1, "int32")
    for index, of_image in enumerate(kept):
        boxes[index, : len(of_image)] = of_image.boxes
        labels[index, : len(of_image)] = of_image.labels
    return {"boxes": boxes, "labels": labels}
