"""A segmentation network wherever it lies: a run, a `.keras`, a `.tflite`, a system's name."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.export.metadata import read_metadata
from keras_hybrid.files import MODEL_FILE, RUN_FILE
from keras_hybrid.image_files import decode_image
from keras_hybrid.litert import open_interpreter
from keras_hybrid.tasks.segmentation.class_tables import table_of
from keras_hybrid.tasks.segmentation.segment import segment
from keras_hybrid.tasks.segmentation.stretching import labels_of
from keras_hybrid.tasks.segmentation.systems import SYSTEMS, build_system
from keras_hybrid.weights.origin import preset_of
from keras_hybrid.workflows.answers.kept_models import holds
from keras_hybrid.workflows.photos_model import as_input_type

LOGITS = "logits"


@dataclass(frozen=True)
class Segmenter:
    """A segmentation network with the names of its classes.

    Attributes:
        name: of the model, for people.
        labels: of its classes; "class 0" and so on where nobody says.
        colors: of its classes; None where no data set gives any.
        mask: from a picture (height, width, 3), RGB of 0 to 255, to its label map.
        model: the Keras model; None of a `.tflite`.
    """

    name: str
    labels: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] | None
    mask: Callable[[np.ndarray], np.ndarray]
    model: keras.Model | None = None

    def predict(self, files: Sequence[str | os.PathLike]) -> list[np.ndarray]:
        """Label maps of picture files, each of its picture's size.

        Raises:
            ImageFileError: for a file that is no picture; it names the file.
        """
        return [self.mask(decode_image(file)) for file in files]


def is_segmenter(name: str) -> bool:
    """Whether a run, a file or a name is a segmentation network's; nothing is loaded.

    Args:
        name: as of `open_segmenter`.
    """
    return holds(name, SYSTEMS, lambda record: bool(record.get("stretches")), _ends_in_logits)


def open_segmenter(name: str, weights: str | None = None) -> Segmenter:
    """Opens a segmentation network.

    Args:
        name: a run's folder, a `.keras` or `.tflite` file, a system's name, or a preset's such as
            "DeepLabV3MobileViTXXS/voc".
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
        return _of_keras(keras.saving.load_model(file, compile=False), name, _names_of_run(file))
    builder, _, tag = name.partition("/")
    if builder not in SYSTEMS:
        raise ValueError(
            f"A segmentation network is expected: a run, a file or one of {tuple(SYSTEMS)}. "
            f"Received: {name!r}"
        )
    return _of_keras(build_system(builder, weights or tag or None), name)


def _ends_in_logits(config):
    """Whether a network gives what a layer "logits" computes, as a map."""
    if LOGITS not in json.dumps(config.get("output_layers", "")):
        return False
    kinds = {layer.get("name"): layer.get("class_name") for layer in config.get("layers", ())}
    return kinds.get(LOGITS) == "Conv2D"


def _of_keras(model, name, names=()):
    shape = model.output[LOGITS].shape if isinstance(model.output, dict) else model.output.shape
    preset = preset_of(model)
    table = table_of(preset.dataset) if preset else None
    if table and len(table.names) != shape[-1]:
        table = None
    return Segmenter(
        name,
        tuple(names) if len(names) == shape[-1] else table.names if table else _labels(shape[-1]),
        table.colors if table else None,
        lambda picture: segment(model, picture),
        model,
    )


def _names_of_run(file):
    """Names of the classes that the run beside a file says."""
    run = file.parent / RUN_FILE
    if not run.is_file():
        return ()
    return json.loads(run.read_text(encoding="utf-8")).get("class_names", ())


def _mask_kind(interpreter) -> str | None:
    """What a file gives: "labels", "scores" a class, or None for what is no mask."""
    outputs = interpreter.get_output_details()
    ranks = [len(output["shape"]) for output in outputs]
    if ranks == [3] and np.issubdtype(outputs[0]["dtype"], np.integer):
        return "labels"
    return "scores" if ranks == [4] else None


def _of_tflite(path):
    interpreter = open_interpreter(path)
    interpreter.allocate_tensors()
    kind = _mask_kind(interpreter)
    if kind is None:
        shapes = [tuple(map(int, x["shape"])) for x in interpreter.get_output_details()]
        raise ValueError(
            "A file that gives a mask is expected, (1, h, w) of labels or (1, h, w, classes). "
            f"Received: {path} with outputs {shapes}"
        )
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    metadata = read_metadata(path)
    normalization = metadata.record.get("normalization")
    size = tuple(map(int, image["shape"][1:3]))
    classes = int(output["shape"][-1]) if kind == "scores" else len(metadata.labels) or 256
    stretches = metadata.record.get("stretches") or [("image", "bilinear")]

    def mask(picture):
        pixels = keras.ops.image.resize(
            picture[None].astype("float32"), size, "bilinear", data_format="channels_last"
        )
        pixels = keras.ops.convert_to_numpy(pixels)
        if metadata.record.get("channel_order") == "BGR":
            pixels = pixels[..., ::-1]
        if normalization is not None:
            pixels = (pixels - np.array(normalization["mean"])) / np.array(normalization["std"])
        interpreter.set_tensor(image["index"], as_input_type(pixels, image))
        interpreter.invoke()
        found = interpreter.get_tensor(output["index"])[0]
        height, width = picture.shape[:2]
        if kind == "labels":
            rows = np.arange(height) * found.shape[0] // height
            return found[rows][:, np.arange(width) * found.shape[1] // width]
        places = {"input": size, "image": (height, width)}
        return labels_of(
            found.astype("float32"), [(*places[place], how) for place, how in stretches]
        )

    return Segmenter(path.name, metadata.labels or _labels(classes), None, mask)


def _labels(classes):
    return tuple(f"class {index}" for index in range(classes))
