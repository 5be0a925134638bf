"""What a file's outputs on the test images are worth, and which classes they say, by task."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_hybrid.tasks.detection.anchors import anchors_of
from keras_hybrid.tasks.detection.average_precision import average_precision
from keras_hybrid.tasks.detection.detect import detections_from, place_image
from keras_hybrid.tasks.detection.systems import system_of
from keras_hybrid.tasks.segmentation.stretching import labels_of
from keras_hybrid.training.data.detection.detection_pipeline import evaluation_pictures
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.data.segmentation.segmentation_pipeline import (
    segmentation_evaluation_dataset,
)
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.training.segmentation_evaluation import class_iou, confusion_matrix
from keras_hybrid.training.tasks.of_recipe import task_of
from keras_hybrid.weights.preprocessing import preprocessing_of


@dataclass(frozen=True)
class ComparedImages:
    """Images that files are compared on.

    Attributes:
        images: as the network takes them, (n, H, W, 3).
        title: what `score` is called.
        score: from outputs by their names, (n, ...) each, to a figure from 0 to 1.
        classes: from the same to the class said of each image, anchor or pixel.
    """

    images: np.ndarray
    title: str
    score: Callable[[dict[str, np.ndarray]], float]
    classes: Callable[[dict[str, np.ndarray]], np.ndarray]


def compared_images(run: Run, source: ImageSource) -> ComparedImages:
    """The evaluation split of a run's data.

    Args:
        run: a classifier's, a detector's of images of one size, or one for segmentation, whose
            images are stretched to its resolution.
        source: of its data.
    """
    task = task_of(run.recipe).name
    if task == "detection":
        return _of_detector(run, source)
    if task == "segmentation":
        return _of_segmenter(run, source)
    batches = list(evaluation_dataset(source, run.recipe, source.evaluation_split))
    labels = np.concatenate([np.asarray(label) for _, label in batches]).argmax(-1)

    def classes(outputs):
        (scores,) = outputs.values()
        return scores.argmax(-1)

    return ComparedImages(
        np.concatenate([np.asarray(batch) for batch, _ in batches]),
        "accuracy",
        lambda outputs: float(np.mean(classes(outputs) == labels)),
        classes,
    )


def _of_detector(run, source):
    system, anchors = system_of(run.model), anchors_of(run.model)
    known, size = preprocessing_of(run.recipe.model), run.model.input_shape[1:3]
    pictures, objects = zip(*evaluation_pictures(source), strict=True)
    placed = [place_image(picture, system, size, known) for picture in pictures]
    places = [place for _, place in placed]

    def score(outputs):
        found = detections_from(outputs, system, anchors, places)
        return average_precision(found, objects, len(run.class_names)).ap

    return ComparedImages(
        np.stack([image for image, _ in placed]),
        "AP",
        score,
        lambda outputs: outputs["classes"].argmax(-1),
    )


def _of_segmenter(run, source):
    recipe = dataclasses.replace(run.recipe, evaluation_fit="stretch", head_options={})
    batches = [
        (np.asarray(images), np.asarray(masks))
        for images, masks in segmentation_evaluation_dataset(source, recipe)
    ]
    masks = [mask for _, several in batches for mask in several]
    count = len(run.class_names)

    def answers(outputs):
        (logits,) = outputs.values()
        return [
            labels_of(one, [(*mask.shape, recipe.stretch)])
            for one, mask in zip(logits, masks, strict=True)
        ]

    def score(outputs):
        pairs = zip(masks, answers(outputs), strict=True)
        matrices = [confusion_matrix(mask, answer, count) for mask, answer in pairs]
        return float(np.nanmean(class_iou(sum(matrices))))

    return ComparedImages(
        np.concatenate([images for images, _ in batches]),
        "mIoU",
        score,
        lambda outputs: np.concatenate([answer.reshape(-1) for answer in answers(outputs)]),
    )
