"""Which detections of an image are right, and which objects none is right about."""

from dataclasses import dataclass

import numpy as np

from keras_hybrid.tasks.detection.matching import overlaps
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.tasks.detection.post_processing import Detections

RIGHT = 0.5  # overlap from which on a detection is its object's


@dataclass(frozen=True, eq=False)
class Comparison:
    """An image's detections beside its objects.

    Attributes:
        shown: places of the detections that count, those of enough score.
        right: (n,), of all detections: whether one counts and is an object's; of several that are
            the same object's, the best alone.
        excused: (n,): whether one is no object's, but lies in a crowd of its class.
        missed: places of the objects that no detection is right about.
    """

    shown: np.ndarray
    right: np.ndarray
    excused: np.ndarray
    missed: np.ndarray

    @property
    def false_alarms(self) -> np.ndarray:
        """Places of the detections that count and are wrong."""
        return self.shown[~(self.right | self.excused)[self.shown]]


def compare(detections: Detections, objects: Objects, score_threshold: float) -> Comparison:
    """Tells right detections from wrong ones, the surest first, at an overlap of 0.5.

    Args:
        detections: of an image.
        objects: of the same image; crowds need not be found.
        score_threshold: what detections of a lesser score say does not count.
    """
    shown = np.flatnonzero(detections.scores >= score_threshold)
    shown = shown[np.argsort(-detections.scores[shown], kind="stable")]
    right = np.zeros(len(detections), bool)
    excused = np.zeros(len(detections), bool)
    free = ~objects.crowd
    if len(objects):
        overlap = np.asarray(overlaps(detections.boxes, objects.boxes))
        overlap = overlap.reshape(len(detections), len(objects))
        inside = _shares_inside(detections.boxes, objects.boxes)
        same = detections.labels[:, None] == objects.labels[None]
        for index in shown:
            fits = np.where(free & same[index], overlap[index], 0)
            if fits.max() >= RIGHT:
                right[index] = True
                free[fits.argmax()] = False
            elif (inside[index][objects.crowd & same[index]] >= RIGHT).any():
                excused[index] = True
    return Comparison(shown, right, excused, np.flatnonzero(free))


def _shares_inside(boxes, others):
    """(n, m): how much of each box lies in each other one."""
    boxes, others = boxes[:, None], others[None]
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(
        boxes[..., :2], others[..., :2]
    )
    area = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
    return np.maximum(sides, 0).prod(axis=-1) / np.maximum(area, 1e-9)
