"""Class by class: how many are found, how many claims are right, what is taken for what."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_hybrid.training.evaluation import Evaluation


@dataclass(frozen=True)
class ClassRow:
    """What a classifier does on the images of one class.

    Attributes:
        name: of the class.
        images: of it.
        found: the share of them that is recognised; None where there are none.
        claims_right: of the images said to be of the class, the share that is; None where there
            are none.
        taken_for: the class most often said in its place, and how often; "" for none.
    """

    name: str
    images: int
    found: float | None
    claims_right: float | None
    taken_for: str


def confusion_matrix(evaluation: Evaluation) -> np.ndarray:
    """Images by true and predicted class, (classes, classes)."""
    classes = evaluation.scores.shape[1]
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (evaluation.labels, evaluation.predictions), 1)
    return matrix


def class_rows(names: Sequence[str], matrix: np.ndarray) -> list[ClassRow]:
    """A row for each class, in their order.

    Args:
        names: of the classes.
        matrix: of `confusion_matrix`.
    """
    rows = []
    for label, name in enumerate(names):
        own, claimed, right = matrix[label].sum(), matrix[:, label].sum(), matrix[label, label]
        others = matrix[label].copy()
        others[label] = 0
        most = others.argmax()
        rows.append(
            ClassRow(
                name,
                int(own),
                right / own if own else None,
                right / claimed if claimed else None,
                f"{names[most]} ({others[most]})" if others[most] else "",
            )
        )
    return rows


def margins(scores: np.ndarray) -> np.ndarray:
    """Of each image, the highest score over the next: (n,)."""
    ranked = np.sort(scores, axis=-1)
    return ranked[:, -1] - (ranked[:, -2] if ranked.shape[1] > 1 else 0)
