"""A detector or Mask R-CNN wherever it lies: a run, a file or three, a published system's name."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.export.metadata import read_metadata, read_record
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.files import MODEL_FILE, RUN_FILE
from keras_hybrid.image_files import decode_image
from keras_hybrid.tasks.detection.anchors import from_config
from keras_hybrid.tasks.detection.class_names import COCO_NAMES
from keras_hybrid.tasks.detection.detect import detections_from, place_image
from keras_hybrid.tasks.detection.file_output import (
    DECODED,
    RAW,
    is_detector,
    object_classes,
)
from keras_hybrid.tasks.detection.post_processing import Detections
from keras_hybrid.tasks.detection.ssdlite import DETECTORS
from keras_hybrid.tasks.detection.systems import system_named
from keras_hybrid.tasks.instances.detect import detect
from keras_hybrid.tasks.instances.mask_rcnn import MASK_RCNNS
from keras_hybrid.tasks.instances.parts import is_mask_rcnn, parts_of
from keras_hybrid.weights.presets import list_weights
from keras_hybrid.workflows.answers.file_pictures import as_file_takes, before_file
from keras_hybrid.workflows.answers.instance_files import (
    is_parts_folder,
    open_instances_file,
    open_parts_folder,
)
from keras_hybrid.workflows.answers.kept_models import holds

_SYSTEMS = {**DETECTORS, **MASK_RCNNS}


@dataclass(frozen=True)
class Detector:
    """A detector or a Mask R-CNN with the names of its classes.

    Attributes:
        name: of the model, for people.
        labels: of its classes; "class 0" and so on where nobody says.
        find: from pictures (height, width, 3), RGB of 0 to 255, to what is in each.
        model: the Keras model; None of a `.tflite`.
    """

    name: str
    labels: tuple[str, ...]
    find: Callable[[Sequence[np.ndarray]], list[Detections]]
    model: keras.Model | None = None

    def predict(self, files: Sequence[str | os.PathLike]) -> list[Detections]:
        """What is in picture files, boxes in pixels of each.

        Raises:
            ImageFileError: for a file that is no picture; it names the file.
        """
        return self.find([decode_image(file) for file in files])


def is_detector_name(name: str) -> bool:
    """Whether a run, a file or a name is a detector's; nothing is loaded.

    Args:
        name: as of `open_detector`.
    """
    if is_parts_folder(Path(name).expanduser()):
        return True
    return holds(name, _SYSTEMS, _is_of_objects, _finds_objects)


def open_detector(name: str, weights: str | None = None) -> Detector:
    """Opens a detector.

    Args:
        name: a run's folder, a `.keras` or `.tflite` file, the folder of a Mask R-CNN's three
            files, a system's name, or a preset's such as "SSDLiteMobileViTXXS/coco".
        weights: of a system's name: a tag or a file; its first published ones if None.

    Raises:
        ValueError: for what is none of these.
        DownloadError: where published weights cannot be had.
    """
    path = Path(name).expanduser()
    if path.suffix == ".tflite":
        return _of_tflite(path)
    if is_parts_folder(path):
        find, names, classes = open_parts_folder(path)
        return Detector(path.name, names or _labels(classes), find)
    if path.is_dir() or path.suffix == ".keras":
        file = path / MODEL_FILE if path.is_dir() else path
        names, trained_on = _of_run_beside(file)
        return _of_keras(keras.saving.load_model(file, compile=False), name, names, trained_on)
    builder, _, tag = name.partition("/")
    if builder not in _SYSTEMS:
        raise ValueError(
            f"A detector is expected: a run, a file or one of {tuple(_SYSTEMS)}. Received: {name!r}"
        )
    weights = weights or tag or list_weights(builder)[0].tag
    return _of_keras(_SYSTEMS[builder](weights=weights), name, COCO_NAMES)


def _is_of_objects(record):
    """Whether a file's record is a detector's or a Mask R-CNN's."""
    return bool(record.get("detector") or record.get("instances"))


def _finds_objects(config):
    """Whether a network has a detector's layer of anchors, or a Mask R-CNN's of regions."""
    layers = {layer.get("class_name") for layer in config.get("layers", ())}
    return bool(layers & {"JoinLevels", "RegionProposals"})


def _of_keras(model, name, names=(), preprocessing=None):
    if is_mask_rcnn(model):
        classes = parts_of(model).classes
    elif is_detector(model):
        classes = object_classes(model)
    else:
        raise ValueError(f"A detector of this package is expected. Received: {name}")
    return Detector(
        name,
        tuple(names) if len(names) == classes else _labels(classes),
        lambda pictures: list(detect(model, list(pictures), preprocessing=preprocessing)),
        model,
    )


def _of_run_beside(file):
    """Names of the classes that the run beside a file says, and whose preprocessing it has."""
    run = file.parent / RUN_FILE
    if not run.is_file():
        return (), None
    described = json.loads(run.read_text(encoding="utf-8"))
    return described.get("class_names", ()), described.get("recipe", {}).get("model")


def _of_tflite(path):
    metadata = read_metadata(path)
    record = metadata.record
    if about := record.get("instances"):
        labels = metadata.labels or _labels(about["classes"])
        return Detector(path.name, labels, open_instances_file(path, record))
    if not record.get("detector"):
        raise ValueError(f"A detector's file that this package made is expected. Received: {path}")
    about = record["detector"]
    before = before_file(record, about["padding"], path)
    system, anchors = system_named(about["system"]), from_config(about["anchors"])
    size = tuple(about["input_size"])

    def find(pictures):
        placed = [place_image(picture, system, size, before) for picture in pictures]
        places = [place for _, place in placed]
        images = np.stack([image for image, _ in placed])
        outputs = run_tflite(path, as_file_takes(images, record, about["padding"]))
        if about["postprocess"] in (RAW, DECODED):
            decoded = about["postprocess"] == DECODED
            return detections_from(outputs, system, anchors, places, decoded=decoded)
        return [_of_operator(outputs, index, place) for index, place in enumerate(places)]

    return Detector(path.name, metadata.labels or _labels(_classes(path)), find)


def _of_operator(outputs, index, place):
    """`Detections` of TensorFlow Lite's own operator, in the picture's pixels."""
    count = int(outputs["count"][index].reshape(-1)[0])
    boxes = outputs["boxes"][index][:count, [1, 0, 3, 2]]
    scale = [
        whole * original / side
        for whole, original, side in zip(
            place.input_size[::-1], place.original[::-1], place.size[::-1], strict=True
        )
    ]
    limits = np.array([*place.original[::-1]] * 2, "float32")
    return Detections(
        np.clip(boxes * np.array(scale * 2, "float32"), 0, limits),
        outputs["scores"][index][:count],
        outputs["classes"][index][:count].astype("int64"),
    )


def _classes(path):
    """How many classes a file may name, where it has no labels."""
    return read_record(path)["detector"]["classes"]


def _labels(classes):
    return tuple(f"class {index}" for index in range(classes))
