"""Pictures with their objects, and what is checked of each before anything is trained on it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_hybrid.image_files import ON_ITS_SIDE, ORIENTATION_TAG, abbreviated
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.training.data.detection.coco_masks import (
    SegmentationError,
    decoded_masks,
    encoded_masks,
    mask_runs,
    turned_masks,
)

SMALLEST_SIDE = 1e-3  # pixels
_TURNED_IN_PLACE = (2, 3, 4)


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """A picture's file and what is in it.

    Attributes:
        path: of the file.
        size: height and width in pixels, as the picture is shown: EXIF's orientation applied.
        objects: with boxes in these pixels, inside the picture.
        masks: of each object, compressed run lengths of this size; None where none were read.
    """

    path: Path
    size: tuple[int, int]
    objects: Objects
    masks: tuple[bytes, ...] | None = None


@dataclass(frozen=True, eq=False)
class DetectionFolder:
    """The pictures of a folder, split by split.

    Attributes:
        class_names: in the order of their labels.
        splits: pictures by split: "train", "validation", "test".
        format: "COCO JSON", "Pascal VOC XML" or "YOLO text".
        notes: what was left out, changed or looks wrong, a sentence each.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[AnnotatedImage]]
    format: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Annotation:
    """What an annotation file says of a picture, before it is compared with the picture's file.

    Attributes:
        path: of the picture's file.
        boxes: (n, 4): corners x1, y1, x2, y2, in pixels or as shares of the picture's sides.
        labels: (n,), from 0.
        size: height and width that the annotations are of; None where they do not say.
        shares: whether boxes are shares.
        crowd: (n,), truth values; None for none.
        areas: (n,): of the objects, in pixels; None for the boxes'.
        segmentations: of each object, as COCO's files have them; None where masks are not wanted.
    """

    path: Path
    boxes: np.ndarray
    labels: np.ndarray
    size: tuple[int, int] | None = None
    shares: bool = False
    crowd: np.ndarray | None = None
    areas: np.ndarray | None = None
    segmentations: Sequence[Any] | None = None


@dataclass
class Problems:
    """What is found wrong, by kind, to be told in one sentence each."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str | os.PathLike) -> None:
        """Counts one of a kind; `where` is a name to show."""
        self.found.setdefault(kind, []).append(os.fspath(where))

    def notes(self) -> list[str]:
        """A sentence for each kind, with how many and the first names."""
        return [
            f"{len(names)} {kind}: {abbreviated(list(dict.fromkeys(names)))}"
            for kind, names in self.found.items()
        ]


def checked(annotations: Sequence[Annotation], problems: Problems) -> list[AnnotatedImage]:
    """The pictures whose files are there, with boxes inside of them as they are shown.

    Boxes that were drawn on a picture as it lies in its file, and not as EXIF says that it is
    shown, are turned along with it: the size that the annotations name tells which it was.

    Args:
        annotations: of pictures.
        problems: gets what is left out or changed.
    """
    return [image for one in annotations if (image := _checked(one, problems))]


def _checked(annotation, problems):
    from PIL import Image

    name = annotation.path.name
    try:
        with Image.open(annotation.path) as file:
            width, height = file.size
            orientation = file.getexif().get(ORIENTATION_TAG, 1)
    except FileNotFoundError:
        problems.add("pictures that annotations name are missing, and are left out", name)
        return None
    except Exception:  # Pillow raises almost anything for broken files
        problems.add("pictures cannot be read, and are left out", name)
        return None
    stored = (height, width)
    shown = (width, height) if orientation in ON_ITS_SIDE else stored
    boxes = np.asarray(annotation.boxes, "float64").reshape(-1, 4)
    drawn_on = annotation.size or shown
    if drawn_on not in (stored, shown):
        problems.add(
            "pictures are not of the size that their annotations are of, and are left out", name
        )
        return None
    if annotation.shares:
        boxes = boxes * np.tile(drawn_on[::-1], 2)
    runs = _masks(annotation, drawn_on, problems)
    if drawn_on != shown:
        boxes = turned(boxes, stored, orientation)
        runs = _turned_runs(runs, stored, orientation)
        problems.add("pictures lie on their side; their boxes are turned along", name)
    elif orientation in _TURNED_IN_PLACE and len(boxes):
        problems.add(
            "pictures are mirrored or upside down by EXIF; their boxes are taken as of what is "
            "shown",
            name,
        )
    kept = _has_mask(runs, len(boxes))
    objects, inside = _inside(boxes, annotation, kept, shown, problems)
    masks = None if runs is None else tuple(runs[place] for place in np.flatnonzero(inside))
    return AnnotatedImage(annotation.path, shown, objects, masks)


def _masks(annotation, size, problems):
    """Run lengths of each object's mask, None where it has none; None where none are wanted."""
    if annotation.segmentations is None:
        return None
    runs, name = [], annotation.path.name
    for segmentation in annotation.segmentations:
        try:
            found, told = mask_runs(segmentation, size)
        except SegmentationError as error:
            found, told = None, [str(error)]
        runs.append(found)
        for kind in told:
            problems.add(kind, name)
    return runs


def _turned_runs(runs, stored, orientation):
    """Run lengths of masks on a picture as it is stored -> as it is shown."""
    if runs is None:
        return None

    def turned_one(one):
        return encoded_masks(turned_masks(decoded_masks([one], *stored), orientation))[0]

    return [None if one is None else turned_one(one) for one in runs]


def _has_mask(runs, count):
    """(count,): which objects have the mask that is wanted of them."""
    if runs is None:
        return np.ones(count, bool)
    return np.array([one is not None for one in runs], bool)


def _inside(boxes, annotation, wanted, size, problems):
    """`Objects` whose boxes are in the picture and have an area; and which of all these are."""
    name = annotation.path.name
    finite = np.isfinite(boxes).all(axis=1)
    areas = annotation.areas
    limits = np.tile(size[::-1], 2)
    clipped = np.clip(np.where(finite[:, None], boxes, 0), 0, limits)
    has_area = (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1) & finite
    stays = (clipped[:, 2:] - clipped[:, :2] > SMALLEST_SIDE).all(axis=1)
    cut = (np.abs(clipped - boxes) > 1).any(axis=1)  # a pixel may be rounding
    for which, kind in (
        (~finite, "boxes are not numbers, and are left out, in"),
        (finite & ~has_area, "boxes have no area, and are left out, in"),
        (has_area & ~stays, "boxes are outside of the picture, and are left out, in"),
        (has_area & stays & cut, "boxes reach out of the picture, and are cut off, in"),
    ):
        for _ in range(int((which & wanted).sum())):
            problems.add(kind, name)
    kept = has_area & stays & wanted
    objects = Objects(
        clipped[kept],
        np.asarray(annotation.labels, "int64").reshape(-1)[kept],
        crowd=None if annotation.crowd is None else np.asarray(annotation.crowd)[kept],
        areas=None if areas is None else np.asarray(areas)[kept],
    )
    return objects, kept


def turned(boxes: np.ndarray, stored: tuple[int, int], orientation: int) -> np.ndarray:
    """Boxes drawn on a picture as it is stored -> on the picture as EXIF says it is shown.

    Args:
        boxes: (n, 4), corners.
        stored: height and width in the file.
        orientation: EXIF's, 1 to 8.
    """
    height, width = stored
    x1, y1, x2, y2 = boxes.T
    left, right = width - x2, width - x1  # mirrored
    upper, lower = height - y2, height - y1
    corners = {
        2: (left, y1, right, y2),
        3: (left, upper, right, lower),
        4: (x1, upper, x2, lower),
        5: (y1, x1, y2, x2),
        6: (upper, x1, lower, x2),
        7: (upper, left, lower, right),
        8: (y1, left, y2, right),
    }
    return np.stack(corners.get(orientation, (x1, y1, x2, y2)), axis=1)
