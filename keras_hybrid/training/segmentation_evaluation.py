"""How well a network segments a data set: one confusion matrix, at the images' own sizes."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL
from keras_hybrid.tasks.segmentation.segment import check_segmentation_model
from keras_hybrid.tasks.segmentation.stretching import labels_of
from keras_hybrid.training.data.segmentation.segmentation_pipeline import (
    segmentation_evaluation_dataset,
)
from keras_hybrid.training.data.segmentation.segmentation_source import SegmentationSource
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe
from keras_hybrid.training.run.run import copy_weights
from keras_hybrid.training.tasks.of_recipe import task_of


@dataclass(frozen=True)
class ImageScore:
    """How well one image is segmented.

    Attributes:
        place: in its split.
        mean_iou: of the classes that labels or answer hold; NaN without a label.
    """

    place: int
    mean_iou: float


@dataclass(frozen=True)
class SegmentationEvaluation:
    """A network's answers on a data set.

    Attributes:
        matrix: pixels by true and predicted class, (classes, classes).
        images: a score for each, in the order of the split.
    """

    matrix: np.ndarray
    images: tuple[ImageScore, ...]

    def class_iou(self) -> np.ndarray:
        """Intersection over union of each class, NaN for one that is nowhere: (classes,)."""
        return class_iou(self.matrix)

    @property
    def mean_iou(self) -> float:
        """Of the classes that labels or answers hold; as `keras.metrics.MeanIoU` has it."""
        found = self.class_iou()
        return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")

    @property
    def foreground_iou(self) -> float:
        """Of all classes but the first, taken as one."""
        rest = self.matrix.sum() - self.matrix[0, 0]
        return float(self.matrix[1:, 1:].sum() / rest) if rest else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels whose class is right."""
        total = self.matrix.sum()
        return float(np.trace(self.matrix) / total) if total else float("nan")

    def worst(self) -> list[ImageScore]:
        """The images, the worst first."""
        scored = [image for image in self.images if np.isfinite(image.mean_iou)]
        return sorted(scored, key=lambda image: image.mean_iou)


def confusion_matrix(labels: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by true and predicted class, those without a label left out: (classes, classes)."""
    labelled = labels != IGNORED_LABEL
    places = labels[labelled].astype("int64") * classes + answer[labelled]
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class of a confusion matrix, NaN for one that is nowhere."""
    right = np.diag(matrix).astype("float64")
    union = matrix.sum(0) + matrix.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def evaluate_segmentation(
    model: keras.Model,
    source: SegmentationSource,
    recipe: SegmentationRecipe,
    split: str | None = None,
) -> SegmentationEvaluation:
    """Runs a network over a split, each image once, as the recipe evaluates.

    Args:
        model: images -> logits, of the recipe.
        source: of the images.
        recipe: that the network was trained with.
        split: its name; None for the evaluation split.

    Raises:
        ValueError: when model and data differ in their number of classes.
    """
    classes = check_segmentation_model(model)
    if classes != len(source.class_names):
        raise ValueError(
            "Model and data must have the same classes. "
            f"Received: a model of {classes} classes, data of {len(source.class_names)}"
        )
    if recipe.any_size and None not in model.input_shape[1:3]:
        # A saved network is of the crops' size; images are evaluated in their own.
        larger = task_of(recipe).new_network(recipe, classes, any_size=True)
        copy_weights(model, larger)
        model = larger
    total, scores = np.zeros((classes, classes), "int64"), []
    for images, masks in segmentation_evaluation_dataset(source, recipe, split):
        if isinstance(masks, dict):
            masks = masks["logits"]
        for answer, labels in zip(answers(model, images, masks, recipe), masks, strict=True):
            matrix = confusion_matrix(np.asarray(labels), answer, classes)
            total += matrix
            ious = class_iou(matrix)
            score = float(np.nanmean(ious)) if np.isfinite(ious).any() else float("nan")
            scores.append(ImageScore(len(scores), score))
    return SegmentationEvaluation(total, tuple(scores))


def answers(model, images, masks, recipe) -> list[np.ndarray]:
    """The label maps of a batch at the labels' size."""
    logits = model(keras.ops.convert_to_tensor(np.asarray(images)), training=False)
    logits = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32"))
    size = tuple(masks.shape[1:3])
    return [labels_of(one, [(*size, recipe.stretch)]) for one in logits]
