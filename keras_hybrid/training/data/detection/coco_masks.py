"""COCO's segmentations, polygons or run lengths, as masks of pictures; by pycocotools."""

from collections.abc import Sequence
from typing import Any

import numpy as np

LEAST_POINTS = 3  # of a polygon
# What is wrong with a segmentation, as notes tell it.
MISSING = "objects have no mask, and are left out, in"
EMPTY = "objects have a mask without polygons, and are left out, in"
FEW_POINTS = "polygons have fewer than three points, and are left out, in"
NO_POLYGON_LEFT = "objects have no polygon of three points, and are left out, in"
NOT_NUMBERS = "objects' masks are neither polygons nor run lengths, and are left out, in"
OTHER_SIZE = "objects' masks are of another size than their picture, and are left out, in"
OTHER_SUM = "objects' run lengths do not add up to their picture, and are left out, in"
NO_PIXEL = "objects' masks are smaller than a pixel, in"


class SegmentationError(ValueError):
    """A segmentation that is no mask of its picture; the message is one of those above."""


def mask_runs(segmentation: Any, size: tuple[int, int]) -> tuple[bytes, list[str]]:
    """A mask as compressed run lengths, whatever a JSON file has it as.

    Args:
        segmentation: polygons, a list of x, y, x, y, ... each; or run lengths, {"size": height and
            width, "counts": numbers, or the text that pycocotools makes of them}.
        size: height and width of the picture.

    Returns: the run lengths, and what is to be told of it.

    Raises:
        SegmentationError: where it is none.
    """
    from pycocotools import mask as coco_mask

    height, width = size
    told: list[str] = []
    if segmentation is None:
        raise SegmentationError(MISSING)
    if isinstance(segmentation, dict):
        runs = _of_counts(segmentation, size)
    elif isinstance(segmentation, (list, tuple)):
        polygons = _polygons(segmentation, told)
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    else:
        raise SegmentationError(NOT_NUMBERS)
    if not coco_mask.area(runs):
        told.append(NO_PIXEL)
    return runs["counts"], told


def decoded_masks(runs: Sequence[bytes], height: int, width: int) -> np.ndarray:
    """Masks (n, height, width), uint8 of 0 and 1, of their compressed run lengths."""
    from pycocotools import mask as coco_mask

    if not len(runs):
        return np.zeros((0, height, width), "uint8")
    size = [int(height), int(width)]
    masks = coco_mask.decode([{"size": size, "counts": bytes(x)} for x in runs])
    return np.ascontiguousarray(masks.transpose(2, 0, 1))


def encoded_masks(masks: np.ndarray) -> list[bytes]:
    """Compressed run lengths of masks (n, height, width) of 0 and 1."""
    from pycocotools import mask as coco_mask

    return [coco_mask.encode(np.asfortranarray(x, dtype="uint8"))["counts"] for x in masks]


def turned_masks(masks: np.ndarray, orientation: int) -> np.ndarray:
    """Masks (n, H, W) drawn on a picture as it is stored -> as EXIF says that it is shown.

    Args:
        masks: of any type.
        orientation: EXIF's, 1 to 8.
    """
    if orientation in (5, 6, 7, 8):
        masks = masks.swapaxes(1, 2)
    left_to_right = orientation in (2, 3, 6, 7)
    upside_down = orientation in (3, 4, 7, 8)
    return masks[:, :: -1 if upside_down else 1, :: -1 if left_to_right else 1]


def _polygons(given, told):
    """The polygons that have an inside, as lists of numbers."""
    if not given:
        raise SegmentationError(EMPTY)
    if not isinstance(given[0], (list, tuple)):  # one polygon, not in a list of its own
        given = [given]
    kept = []
    for polygon in given:
        try:
            points = np.asarray(polygon, "float64").reshape(-1, 2)
        except (TypeError, ValueError) as error:
            raise SegmentationError(NOT_NUMBERS) from error
        if not np.isfinite(points).all():
            raise SegmentationError(NOT_NUMBERS)
        if len(points) < LEAST_POINTS:
            told.append(FEW_POINTS)
            continue
        kept.append(points.ravel().tolist())
    if not kept:
        raise SegmentationError(NO_POLYGON_LEFT)
    return kept


def _of_counts(given, size):
    """Compressed run lengths of a dictionary of COCO's."""
    from pycocotools import mask as coco_mask

    height, width = size
    counts = given.get("counts")
    if "size" not in given or not isinstance(counts, (str, bytes, list, tuple)):
        raise SegmentationError(NOT_NUMBERS)
    if list(given["size"]) != [height, width]:
        raise SegmentationError(OTHER_SIZE)
    try:
        if isinstance(counts, (str, bytes)):
            counts = counts.encode("ascii") if isinstance(counts, str) else counts
            numbers = _run_lengths(counts)
        else:
            numbers = [int(x) for x in counts]
    except (IndexError, TypeError, ValueError) as error:
        raise SegmentationError(NOT_NUMBERS) from error
    # Of others pycocotools makes masks of whatever is in memory.
    if min(numbers, default=0) < 0 or sum(numbers) != height * width:
        raise SegmentationError(OTHER_SUM)
    if isinstance(counts, bytes):
        return {"size": [height, width], "counts": counts}
    return coco_mask.frPyObjects({"size": [height, width], "counts": numbers}, height, width)


def _run_lengths(counts: bytes) -> list[int]:
    """The numbers of compressed run lengths.

    Each is the difference from the one before the last, five bits a character, the lowest first.
    """
    numbers: list[int] = []
    place = 0
    while place < len(counts):
        value, shift, more = 0, 0, True
        while more:
            bits = counts[place] - 48
            value |= (bits & 31) << shift
            more, place, shift = bool(bits & 32), place + 1, shift + 5
        if bits & 16:
            value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
    return numbers
