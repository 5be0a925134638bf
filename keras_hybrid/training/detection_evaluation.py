"""How well a detector finds the objects of a data set: COCO's average precision."""

import dataclasses
from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.tasks.detection.average_precision import (
    MASKS,
    AveragePrecision,
    PrecisionMeter,
    average_precision,
)
from keras_hybrid.tasks.detection.detect import detections_of, place_image
from keras_hybrid.tasks.detection.file_output import is_detector, object_classes
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.tasks.detection.post_processing import Detections, SelectionRule, select
from keras_hybrid.tasks.detection.systems import system_of
from keras_hybrid.tasks.instances.detect import detect
from keras_hybrid.tasks.instances.parts import is_mask_rcnn, parts_of
from keras_hybrid.training.data.detection.detection_pipeline import evaluation_pictures
from keras_hybrid.training.data.detection.detection_source import DetectionSource
from keras_hybrid.training.recipe.objects import ObjectRecipe
from keras_hybrid.weights.preprocessing import preprocessing_of

BATCH_SIZE = 8
_ACROSS_CLASSES = SelectionRule(0.0, 0.5, candidates=None)


@dataclass(frozen=True, eq=False)
class DetectionEvaluation:
    """A detector's answers on a data set.

    Attributes:
        detections: of each image, by the system's published rule, without masks.
        objects: of the same images, likewise.
        precision: average precision of the boxes.
        mask_precision: that of the masks; None where network or data have none.
    """

    detections: list[Detections]
    objects: list[Objects]
    precision: AveragePrecision
    mask_precision: AveragePrecision | None = None

    def class_agnostic(self) -> AveragePrecision:
        """The same where a box is right whatever its class: how well objects are found at all.

        Boxes that say several classes of one object count once: suppression is across classes.
        """
        classes = len(self.precision.by_class)
        found = [select(one.boxes, one.scores[:, None], _ACROSS_CLASSES) for one in self.detections]
        return average_precision(found, self.objects, classes, class_agnostic=True)


def evaluate_detection(
    model: keras.Model,
    source: DetectionSource,
    recipe: ObjectRecipe,
    split: str | None = None,
) -> DetectionEvaluation:
    """Runs a detector over a split, each image once, as `keras_hybrid.detect` does.

    Args:
        model: the detector, or a Mask R-CNN.
        source: of the images.
        recipe: that the network was trained with.
        split: its name; None for the evaluation split.

    Raises:
        ValueError: for a model that is no detector, or has other classes than the data.
    """
    classes = len(source.class_names)
    check_detector(model, classes)
    detections: list[Detections] = []
    objects: list[Objects] = []
    meters = [PrecisionMeter(classes)]
    if source.has_masks and is_mask_rcnn(model):
        meters.append(PrecisionMeter(classes, MASKS))
    batch: list = []
    truths: list[Objects] = []

    def count():
        for found, truth in zip(_detected(model, batch, recipe), truths, strict=True):
            for meter in meters:
                meter.add(found, truth)
            # Masks of a whole data set would not fit into memory.
            detections.append(dataclasses.replace(found, masks=None))
            objects.append(Objects(truth.boxes, truth.labels, truth.crowd, truth.areas))
        batch.clear()
        truths.clear()

    for picture, truth in evaluation_pictures(source, split):
        batch.append(picture)
        truths.append(truth)
        if len(batch) == BATCH_SIZE:
            count()
    if batch:
        count()
    return DetectionEvaluation(detections, objects, *(meter.result() for meter in meters))


def _detected(model, pictures, recipe):
    """What `detect` gives, by a compiled network where all batches have one shape."""
    if is_mask_rcnn(model) or None in model.input_shape[1:3]:
        return detect(model, pictures, preprocessing=recipe.model)
    system, known = system_of(model), preprocessing_of(recipe.model)
    placed = [place_image(picture, system, model.input_shape[1:3], known) for picture in pictures]
    images = [image for image, _ in placed]
    images += images[:1] * (BATCH_SIZE - len(images))
    outputs = model.predict_on_batch(np.stack(images))
    return detections_of(outputs, model, [place for _, place in placed])


def check_detector(model: keras.Model, classes: int) -> None:
    """Raises a ValueError for what is no detector of so many classes."""
    if is_mask_rcnn(model):
        found = parts_of(model).classes
    elif is_detector(model):
        found = object_classes(model)
    else:
        raise ValueError(f"A detector of this package is expected. Received: model={model.name}")
    if found != classes:
        raise ValueError(
            "Model and data must have the same classes. "
            f"Received: a model of {found} classes, data of {classes}"
        )
