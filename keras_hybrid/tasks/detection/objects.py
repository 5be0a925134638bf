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
            small from large; None for the masks' areas, or the boxes' where there are none.
        masks: (n, H, W), truth values: each object's pixels; None where they are not known.

    Raises:
        ValueError: for arrays that do not fit each other, or boxes that are not finite.
    """

    boxes: Any
    labels: Any
    crowd: Any = None
    areas: Any = None
    masks: Any = None

    def __post_init__(self):
        boxes = np.asarray(self.boxes, "float32").reshape(-1, 4)
        labels = np.asarray(self.labels, "int64").reshape(-1)
        count = len(boxes)
        crowd = np.zeros(count, bool) if self.crowd is None else np.asarray(self.crowd, bool)
        masks = None if self.masks is None else np.asarray(self.masks, bool)
        if masks is not None and masks.ndim != 3:
            raise ValueError(
                f"Masks (objects, height, width) are expected. Received: masks {masks.shape}"
            )
        if self.areas is not None:
            areas = np.asarray(self.areas, "float32")
        elif masks is not None:
            areas = masks.sum(axis=(1, 2)).astype("float32")
        else:
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        lengths = {"labels": len(labels), "crowd": len(crowd), "areas": len(areas)}
        if masks is not None:
            lengths["masks"] = len(masks)
        if any(length != count for length in lengths.values()):
            raise ValueError(
                "As many labels, crowds, areas and masks as boxes are expected. Received: "
                f"{count} boxes, "
                + ", ".join(f"{length} {name}" for name, length in lengths.items())
            )
        if not np.isfinite(boxes).all():
            raise ValueError("Boxes must be finite. Received: some that are not")
        for name, value in (("boxes", boxes), ("labels", labels), ("crowd", crowd)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "areas", areas)
        object.__setattr__(self, "masks", masks)

    def __len__(self):
        return len(self.labels)

    def trainable(self) -> "Objects":
        """Those that a network is trained on: no crowds, and none without an area."""
        kept = ~self.crowd & (self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1)
        masks = None if self.masks is None else self.masks[kept]
        return Objects(self.boxes[kept], self.labels[kept], areas=self.areas[kept], masks=masks)


def padded(objects: Sequence[Objects], count: int | None = None) -> dict[str, np.ndarray]:
    """What training takes of several images: lists of one length.

    Args:
        objects: of each image; crowds and boxes without an area are left out.
        count: the length; None for that of the image with the most.

    Returns: "boxes" (batch, count, 4), float32, and "labels" (batch, count), int32, -1 where there
        is no object; where all objects have masks, and these one size, "masks"
        (batch, count, H, W), uint8 of 0 and 1.

    Raises:
        ValueError: for an image with more than `count` objects, and masks of several sizes.
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
    if any(of_image.masks is None for of_image in kept) or not kept:
        return {"boxes": boxes, "labels": labels}
    sizes = sorted({of_image.masks.shape[1:] for of_image in kept})
    if len(sizes) > 1:
        raise ValueError(f"Masks of one size are expected. Received: masks of the sizes {sizes}")
    masks = np.zeros((len(kept), count, *sizes[0]), "uint8")
    for index, of_image in enumerate(kept):
        masks[index, : len(of_image)] = of_image.masks
    return {"boxes": boxes, "labels": labels, "masks": masks}
