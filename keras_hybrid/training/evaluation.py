"""How well a classifier does on a data set."""

from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """A classifier's answers on a data set.

    Attributes:
        labels: the true classes, (n,).
        scores: the classifier's output, (n, classes).
    """

    labels: np.ndarray
    scores: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """The class of the highest score, (n,)."""
        return self.scores.argmax(-1)

    @property
    def accuracy(self) -> float:
        """Share of images whose highest score is the true class."""
        return float(np.mean(self.predictions == self.labels))

    @property
    def cross_entropy(self) -> float:
        """Mean of -log(score of the true class), for scores that are probabilities."""
        of_truth = self.scores[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(of_truth, 1e-7)).mean())

    def top_accuracy(self, k: int) -> float:
        """Share of images whose true class is among the k highest scores.

        Raises:
            ValueError: for a k of less than one or more than the classes.
        """
        if not 1 <= k <= self.scores.shape[1]:
            raise ValueError(f"`k` must be in [1, {self.scores.shape[1]}]. Received: k={k!r}")
        highest = np.argsort(-self.scores, axis=-1, kind="stable")[:, :k]
        return float(np.mean((highest == self.labels[:, None]).any(-1)))

    def class_accuracy(self) -> np.ndarray:
        """Accuracy among the images of each class, NaN where there are none: (classes,)."""
        right = self.predictions == self.labels
        return np.array(
            [
                right[self.labels == label].mean() if (self.labels == label).any() else np.nan
                for label in range(self.scores.shape[1])
            ]
        )


def evaluate(model: keras.Model, dataset, verbose: int = 0) -> Evaluation:
    """Runs a classifier over a data set.

    Args:
        model: images -> (batch, classes).
        dataset: batches of (images, labels), labels one-hot, as from `evaluation_dataset`.
        verbose: 1 for Keras' progress bar.

    Raises:
        ValueError: when model and data differ in their number of classes.
    """
    labels = [np.asarray(batch).argmax(-1) for _, batch in dataset]
    classes = dataset.element_spec[1].shape[-1]
    if model.output_shape[-1] != classes:
        raise ValueError(
            "Model and data must have the same classes. "
            f"Received: a model of {model.output_shape[-1]} classes, data of {classes}"
        )
    scores = model.predict(dataset.map(lambda images, _: images), verbose=verbose)
    return Evaluation(np.concatenate(labels), np.asarray(scores))
