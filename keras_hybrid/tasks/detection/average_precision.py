"""Average precision of detections, by pycocotools: COCO's own code."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.tasks.detection.post_processing import Detections

BOXES, MASKS = "boxes", "masks"
LIMIT = 100  # detections of an image that count, the best
# In pycocotools' order of `stats`.
_AP50 = 0  # index of the overlap 0.5 among the thresholds
_ALL_SIZES = 0
_MOST_DETECTIONS = 2


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """How well objects were found, as COCO measures it: from 0 to 1, NaN where there is none.

    Attributes:
        ap: mean over the overlaps 0.5, 0.55, ..., 0.95 and the classes that have objects.
        ap50: at an overlap of 0.5.
        ap75: at 0.75.
        small: of objects up to 32 x 32 px, over all overlaps.
        medium: of those up to 96 x 96 px.
        large: of larger ones.
        recall: share of the objects that were found, of 100 detections an image.
        by_class: (classes,), `ap` of each.
        precision: (101, classes), at an overlap of 0.5: of the best detections that find 0, 1, ...,
            100 % of the objects.
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float
    recall: float
    by_class: np.ndarray
    precision: np.ndarray


def average_precision(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    classes: int,
    class_agnostic: bool = False,
    of: str = BOXES,
) -> AveragePrecision:
    """COCO's average precision of boxes or masks.

    Args:
        detections: of each image, in its pixels.
        objects: of the same images; regions of crowds excuse detections and need not be found.
        classes: number of classes.
        class_agnostic: whether a box is right whatever its class.
        of: what is compared, "boxes" or "masks".

    Raises:
        ImportError: without pycocotools.
        ValueError: for other numbers of images, labels beyond the classes, another `of`, or masks
            that are missing or of another size than the image's other ones.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
        from pycocotools.mask import area as mask_area
    except ImportError as error:
        raise ImportError(
            "Average precision is computed by pycocotools: `pip install 'keras-hybrid[detection]'`."
        ) from error
    if len(detections) != len(objects) or not objects:
        raise ValueError(
            "Detections and objects of the same images are expected, one image or more. "
            f"Received: {len(detections)} and {len(objects)}"
        )
    for kind, of_images in (("detections", detections), ("objects", objects)):
        labels = np.concatenate([of_image.labels for of_image in of_images])
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"Labels must be from 0 to {classes - 1}. Received: {kind} with labels from "
                f"{labels.min()} to {labels.max()}"
            )
    if of not in (BOXES, MASKS):
        raise ValueError(f"`of` must be one of {(BOXES, MASKS)}. Received: of={of!r}")
    sizes = _mask_sizes(detections, objects) if of == MASKS else [(0, 0)] * len(objects)
    category = (lambda label: 1) if class_agnostic else (lambda label: int(label) + 1)
    images = [
        {"id": index, "height": height, "width": width}
        for index, (height, width) in enumerate(sizes, start=1)
    ]
    categories = [{"id": number} for number in range(1, 2 if class_agnostic else classes + 1)]
    truths = [
        {
            "image_id": index,
            "category_id": category(label),
            "bbox": _corner_and_sides(box),
            "area": float(area),
            "iscrowd": int(crowd),
            **shape,
        }
        for index, of_image in enumerate(objects, start=1)
        for box, label, crowd, area, shape in zip(
            of_image.boxes,
            of_image.labels,
            of_image.crowd,
            of_image.areas,
            _shapes(of_image, of),
            strict=True,
        )
    ]
    found = [
        {
            "image_id": index,
            "category_id": category(label),
            "bbox": (sides := _corner_and_sides(box)),
            "area": sides[2] * sides[3],
            "score": float(score),
            "iscrowd": 0,
            **shape,
        }
        for index, of_image in enumerate(detections, start=1)
        for box, score, label, shape in zip(
            of_image.boxes, of_image.scores, of_image.labels, _shapes(of_image, of), strict=True
        )
    ]
    if of == MASKS:  # a detection is as large as its mask
        found = [{**each, "area": float(mask_area(each["segmentation"]))} for each in found]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints tables
        sets = []
        for annotations in (truths, found):
            coco = COCO()
            numbered = [{**each, "id": i} for i, each in enumerate(annotations, start=1)]  # not 0
            coco.dataset = {"images": images, "categories": categories, "annotations": numbered}
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, "bbox" if of == BOXES else "segm")
        evaluation.params.maxDets = [1, 10, LIMIT]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    # (overlaps, recalls, classes, sizes, limits), -1 for classes without objects
    precision = evaluation.eval["precision"][:, :, :, _ALL_SIZES, _MOST_DETECTIONS]
    precision = np.where(precision < 0, np.nan, precision)
    return AveragePrecision(
        ap=float(stats[0]),
        ap50=float(stats[1]),
        ap75=float(stats[2]),
        small=float(stats[3]),
        medium=float(stats[4]),
        large=float(stats[5]),
        recall=float(stats[8]),
        by_class=precision.mean(axis=(0, 1)),
        precision=precision[_AP50],
    )


def _mask_sizes(detections, objects):
    """Height and width of each image's masks; 0 where there is nothing in it."""
    sizes = []
    for index, pair in enumerate(zip(detections, objects, strict=True)):
        missing = [type(one).__name__ for one in pair if len(one) and one.masks is None]
        shapes = {one.masks.shape[1:] for one in pair if one.masks is not None and len(one)}
        if missing or len(shapes) > 1:
            raise ValueError(
                "Masks of one size are expected, of every detection and object of an image. "
                f"Received: image {index} with masks of the sizes {sorted(shapes)}, and "
                f"{missing or 'nothing'} without"
            )
        sizes.append(shapes.pop() if shapes else (0, 0))
    return sizes


def _shapes(of_image, of):
    """What an annotation of each box has besides: its mask, run by run."""
    if of == BOXES or not len(of_image):
        return [{}] * len(of_image)
    from pycocotools.mask import encode

    return [
        {"segmentation": encode(np.asfortranarray(mask, dtype="uint8"))} for mask in of_image.masks
    ]


def _corner_and_sides(box):
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]
