"""A detector wherever it lies: a run, a `.keras`, a `.tflite`, a published system's name."""

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
from keras_hybrid.tasks.detection.detect import detect, detections_from, place_image
from keras_hybrid.tasks.detection.file_output import (
    DECODED,
    RAW,
    is_detector,
    object_classes,
)
from keras_hybrid.tasks.detection.post_processing import Detections
from keras_hybrid.tasks.detection.ssdlite import DETECTORS
from keras_hybrid.tasks.detection.systems import system_named
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.presets import list_weights
from keras_hybrid.workflows.answers.kept_models import holds


@dataclass(frozen=True)
class Detector:
    """A detector with the names of its classes.

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
    return holds(name, DETECTORS, lambda record: bool(record.get("detector")), _joins_levels)


def open_detector(name: str, weights: str | None = None) -> Detector:
    """Opens a detector.

    Args:
        name: a run's folder, a `.keras` or `.tflite` file, a system's name, or a preset's such as
            "SSDLiteMobileViTXXS/coco".
        weights: of a system's name: a tag or a file; its first published ones if None.

    Raises:
        ValueError: for what is none of these.
        DownloadError: where published weights cannot be had.
    """
    path = Path(name).expanduser()
    if path.suffix == ".tflite":
        return _of_tflite(path)
    if path.is_dir() or path.suffix == ".keras":
        file = path / MODEL_FILE if path.is_dir() else path
        names, trained_on = _of_run_beside(file)
        return _of_keras(keras.saving.load_model(file, compile=False), name, names, trained_on)
    builder, _, tag = name.partition("/")
    if builder not in DETECTORS:
        raise ValueError(
            f"A detector is expected: a run, a file or one of {tuple(DETECTORS)}. "
            f"Received: {name!r}"
        )
    weights = weights or tag or list_weights(builder)[0].tag
    return _of_keras(DETECTORS[builder](weights=weights), name, COCO_NAMES)


def _joins_levels(config):
    """Whether a network has the layer that keeps a detector's anchors."""
    return any(layer.get("class_name") == "JoinLevels" for layer in config.get("layers", ()))


def _of_keras(model, name, names=(), preprocessing=None):
    if not is_detector(model):
        raise ValueError(f"A detector of this package is expected. Received: {name}")
    classes = object_classes(model)
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
    if not record.get("detector"):
        raise ValueError(f"A detector's file that this package made is expected. Received: {path}")
    about = record["detector"]
    if not record["preprocessing"] and "normalization" not in record:
        raise ValueError(
            "A file that says how its images are normalized is expected: export it with "
            f"preprocessing=. Received: {path}"
        )
    system, anchors = system_named(about["system"]), from_config(about["anchors"])
    size = tuple(about["input_size"])
    before = _before(record)
    padding = np.array(about["padding"], "float32")

    def find(pictures):
        placed = [place_image(picture, system, size, before) for picture in pictures]
        places = [place for _, place in placed]
        images = np.stack([image for image, _ in placed])
        if record["preprocessing"]:
            images = images + padding
        elif record["channel_order"] == "BGR":
            images = images[..., ::-1]
        outputs = run_tflite(path, images)
        if about["postprocess"] in (RAW, DECODED):
            decoded = about["postprocess"] == DECODED
            return detections_from(outputs, system, anchors, places, decoded=decoded)
        return [_of_operator(outputs, index, place) for index, place in enumerate(places)]

    return Detector(path.name, metadata.labels or _labels(_classes(path)), find)


def _before(record):
    """What a picture's pixels go through before the file, in RGB, so that padding is 0."""
    if record["preprocessing"]:
        mean = [value / 255 for value in record["detector"]["padding"]]
        std = (1 / 255,) * 3
    else:
        mean, std = (
            np.broadcast_to(np.array(record["normalization"][key]) / 255, 3)
            for key in ("mean", "std")
        )
    return Preprocessing(0, 1.0, "bilinear", tuple(mean), tuple(std))


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
