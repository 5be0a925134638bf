"""From boxes and scores of all anchors to the few that are shown: on the host, in NumPy.

Non-maximum suppression is TensorFlow's. It has no place in the file of a phone's accelerator, and
needs none in a training graph.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SelectionRule:
    """How the detections of an image are chosen.

    Attributes:
        score_threshold: scores must be over it.
        overlap_threshold: a box that overlaps a better one of its class by more is dropped.
        candidates: so many of the best of a class, or of a level, are looked at; None for all.
        of_each: what `candidates` counts in, "class" or "level".
        class_limit: of a class at most so many are kept; None for no limit.
        limit: of all classes together at most so many are kept, the best; None for no limit.
    """

    score_threshold: float
    overlap_threshold: float
    candidates: int | None
    of_each: str = "class"
    class_limit: int | None = None
    limit: int | None = None

    def __post_init__(self):
        if self.of_each not in ("class", "level"):
            raise ValueError(
                f'`of_each` must be "class" or "level". Received: of_each={self.of_each!r}'
            )
        for name in ("score_threshold", "overlap_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"`{name}` must be from 0 to 1. Received: {name}={getattr(self, name)!r}"
                )


@dataclass(frozen=True)
class Detections:
    """What was found in one image, the highest score first.

    Attributes:
        boxes: (n, 4), float32: corners x1, y1, x2, y2.
        scores: (n,), float32, from 0 to 1.
        labels: (n,), int64, from 0.
        masks: (n, H, W), truth values: which of the image's pixels each object has; None of a
            network that tells boxes only.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self):
        return len(self.scores)


def select(
    boxes: np.ndarray,
    scores: np.ndarray,
    rule: SelectionRule,
    levels: tuple[int, ...] | None = None,
) -> Detections:
    """The detections of an image.

    Args:
        boxes: (n, 4), corners, in any unit.
        scores: (n, classes).
        rule: how they are chosen.
        levels: how many of the boxes each level has, where the rule counts by levels.

    Returns: `Detections`; none where no score is over the threshold.

    Raises:
        ValueError: for boxes or scores that are not finite, or of other shapes.
    """
    boxes, scores = np.asarray(boxes, "float32"), np.asarray(scores, "float32")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.ndim != 2 or len(scores) != len(boxes):
        raise ValueError(
            "Boxes (n, 4) and scores (n, classes) are expected. "
            f"Received: boxes {boxes.shape}, scores {scores.shape}"
        )
    bad = {"boxes": (~np.isfinite(boxes)).sum(), "scores": (~np.isfinite(scores)).sum()}
    if any(bad.values()):
        raise ValueError(
            "Boxes and scores must be finite: has training diverged, or are the inputs not finite? "
            f"Received: {bad['boxes']} numbers of boxes and {bad['scores']} scores that are not"
        )
    if rule.of_each == "level":
        anchors, labels = _best_of_levels(scores, rule, levels)
    else:
        anchors, labels = _best_of_classes(scores, rule)
    chosen = scores[anchors, labels]
    of_classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    kept = _joined(
        [each[_suppress(boxes[anchors[each]], chosen[each], rule)] for each in of_classes]
    )
    kept = kept[_best(chosen[kept], rule.limit)]
    return Detections(boxes[anchors[kept]], chosen[kept], labels[kept].astype("int64"))


def _best_of_classes(scores, rule):
    """Anchor and label of each candidate, the best of each class."""
    anchors, labels = [], []
    for label in np.flatnonzero((scores > rule.score_threshold).any(axis=0)):
        over = np.flatnonzero(scores[:, label] > rule.score_threshold)
        anchors.append(over[_best(scores[over, label], rule.candidates)])
        labels.append(np.full(len(anchors[-1]), label))
    return _joined(anchors), _joined(labels)


def _best_of_levels(scores, rule, levels):
    """Anchor and label of each candidate, the best of each level."""
    if levels is None or sum(levels) != len(scores):
        raise ValueError(
            "`levels` must say how many of the boxes each level has. "
            f"Received: levels={levels} of {len(scores)} boxes"
        )
    anchors, labels, start = [], [], 0
    for count in levels:
        at, label = np.nonzero(scores[start : start + count] > rule.score_threshold)
        best = _best(scores[start + at, label], rule.candidates)
        anchors.append(start + at[best])
        labels.append(label[best])
        start += count
    return _joined(anchors), _joined(labels)


def _best(scores, limit):
    """Places of the best scores, highest first; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:limit]


def _suppress(boxes, scores, rule):
    """Places of the boxes of one class that stay."""
    import tensorflow as tf

    limit = len(boxes) if rule.class_limit is None else rule.class_limit
    with tf.device("cpu"):
        kept = tf.image.non_max_suppression(boxes, scores, limit, rule.overlap_threshold)
    return kept.numpy()


def _joined(arrays):
    return np.concatenate(arrays) if arrays else np.zeros(0, "int64")
