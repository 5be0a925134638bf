"""Average precision of detections, by pycocotools: COCO's own code."""

import contextlib
import importlib.util
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
    if len(detections) != len(objects) or not objects:
        raise ValueError(
            "Detections and objects of the same images are expected, one image or more. "
            f"Received: {len(detections)} and {len(objects)}"
        )
    meter = PrecisionMeter(classes, of)
    for found, truth in zip(detections, objects, strict=True):
        meter.add(found, truth)
    return meter.result(class_agnostic)


class PrecisionMeter:
    """COCO's average precision, image by image: of masks it keeps their run lengths alone.

    Args:
        classes: number of classes.
        of: what is compared, "boxes" or "masks".

    Raises:
        ImportError: without pycocotools.
        ValueError: for another `of`.
    """

    def __init__(self, classes: int, of: str = BOXES):
        if importlib.util.find_spec("pycocotools") is None:
            raise ImportError(
                "Average precision is computed by pycocotools: "
                "`pip install 'keras-hybrid[detection]'`."
            )
        if of not in (BOXES, MASKS):
            raise ValueError(f"`of` must be one of {(BOXES, MASKS)}. Received: of={of!r}")
        self._classes, self._of = classes, of
        self._sizes: list[tuple[int, int]] = []
        self._truths: list[dict] = []
        self._found: list[dict] = []

    def add(self, detections: Detections, objects: Objects) -> None:
        """Counts one image.

        Raises:
            ValueError: for labels beyond the classes, and masks that are missing or of another
                size than the image's other ones.
        """
        for kind, labels in (("detections", detections.labels), ("objects", objects.labels)):
            if len(labels) and not (min(labels) >= 0 and max(labels) < self._classes):
                raise ValueError(
                    f"Labels must be from 0 to {self._classes - 1}. Received: {kind} with labels "
                    f"from {min(labels)} to {max(labels)}"
                )
        number = len(self._sizes) + 1  # not 0
        size = (0, 0)
        if self._of == MASKS:
            size = _mask_size(detections, objects, number - 1)
        self._sizes.append(size)
        for box, label, crowd, area, shape in zip(
            objects.boxes,
            objects.labels,
            objects.crowd,
            objects.areas,
            _shapes(objects, self._of),
            strict=True,
        ):
            self._truths.append(
                {
                    "image_id": number,
                    "label": int(label),
                    "bbox": _corner_and_sides(box),
                    "area": float(area),
                    "iscrowd": int(crowd),
                    **shape,
                }
            )
        for box, score, label, shape in zip(
            detections.boxes,
            detections.scores,
            detections.labels,
            _shapes(detections, self._of),
            strict=True,
        ):
            sides = _corner_and_sides(box)
            self._found.append(
                {
                    "image_id": number,
                    "label": int(label),
                    "bbox": sides,
                    "area": _area(shape, sides),
                    "score": float(score),
                    "iscrowd": 0,
                    **shape,
                }
            )

    def result(self, class_agnostic: bool = False) -> AveragePrecision:
        """Average precision of the images so far.

        Args:
            class_agnostic: whether a box is right whatever its class.
        """
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        classes = 1 if class_agnostic else self._classes
        images = [
            {"id": number, "height": height, "width": width}
            for number, (height, width) in enumerate(self._sizes, start=1)
        ]
        categories = [{"id": number} for number in range(1, classes + 1)]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints tables
            sets = []
            for annotations in (self._truths, self._found):
                coco = COCO()
                numbered = [
                    {**each, "id": i, "category_id": 1 if class_agnostic else each["label"] + 1}
                    for i, each in enumerate(annotations, start=1)
                ]
                coco.dataset = {
                    "images": images,
                    "categories": categories,
                    "annotations": numbered,
                }
                coco.createIndex()
                sets.append(coco)
            evaluation = COCOeval(*sets, "bbox" if self._of == BOXES else "segm")
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


def _mask_size(detections, objects, index):
    """Height and width of an image's masks; 0 where there is nothing in it."""
    pair = (detections, objects)
    missing = [type(one).__name__ for one in pair if len(one) and one.masks is None]
    shapes = {one.masks.shape[1:] for one in pair if one.masks is not None and len(one)}
    if missing or len(shapes) > 1:
        raise ValueError(
            "Masks of one size are expected, of every detection and object of an image. "
            f"Received: image {index} with masks of the sizes {sorted(shapes)}, and "
            f"{missing or 'nothing'} without"
        )
    return shapes.pop() if shapes else (0, 0)


def _area(shape, sides):
    """Pixels of a detection: of its mask, where it has one."""
    if not shape:
        return sides[2] * sides[3]
    from pycocotools.mask import area

    return float(area(shape["segmentation"]))


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
