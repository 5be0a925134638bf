"""A classifier wherever it lies: a run, a `.keras`, a `.tflite`, a network's name with its weights.

What each takes of a picture differs; here all take a picture's file and give a score a class.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_hybrid.export.metadata import read_metadata
from keras_hybrid.files import MODEL_FILE, RUN_FILE
from keras_hybrid.image_files import decode_image
from keras_hybrid.litert import open_interpreter
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.training.augmentation.cropping import decode_central_crop
from keras_hybrid.training.recipe.recipe import CROP, STRETCH
from keras_hybrid.training.run.run_folder import load_run
from keras_hybrid.weights.labels import imagenet_classes
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Classifier:
    """A classifier with what it needs of a picture.

    Attributes:
        name: of the model, for people.
        labels: of its classes; "class 0" and so on where nobody says.
        size: (height, width) of its input, which is square.
        crop_fraction: side of the central crop over the shorter side of the resized picture.
        interpolation: of the resize.
        to_square: "crop" for that crop, "stretch" for all of the picture.
        scores: from pictures (n, height, width, 3), RGB of 0 to 255, to scores (n, classes).
        model: the Keras model; None of a `.tflite`.
    """

    name: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    crop_fraction: float
    interpolation: str
    scores: Callable[[np.ndarray], np.ndarray]
    model: keras.Model | None = None
    to_square: str = CROP

    def crop(self, file: str | os.PathLike) -> np.ndarray:
        """What the network sees of a picture: (height, width, 3), RGB of 0 to 255.

        Raises:
            ImageFileError: for a file that is no picture; it names the file.
        """
        decode_image(file)  # says what is wrong, where something is
        content = tf.constant(Path(file).read_bytes())
        crop = _cropping(self.size[0], self.crop_fraction, self.interpolation, self.to_square)
        return crop(content).numpy()

    def predict(self, files: Sequence[str | os.PathLike]) -> np.ndarray:
        """Scores of picture files, (n, classes)."""
        return self.scores(np.stack([self.crop(file) for file in files]))


@functools.cache
def _cropping(side, crop_fraction, interpolation, to_square):
    """From a file's content to the crop, in a graph as in training: the same pixels."""
    return tf.function(
        lambda content: decode_central_crop(content, side, crop_fraction, interpolation, to_square),
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
    )


def open_classifier(name: str, weights: str | None = None) -> Classifier:
    """Opens a classifier.

    Args:
        name: a run's folder, a `.keras` or `.tflite` file, a network's name, or a preset's such
            as "MobileViTXS/imagenet".
        weights: of a network's name: a tag or a file; "imagenet" if None.

    Raises:
        ValueError: for what is none of these, or no classifier.
        DownloadError: where published weights cannot be had.
    """
    path = Path(name).expanduser()
    if path.suffix == ".tflite":
        return _of_tflite(path)
    if path.is_dir():
        return _of_run(path)
    if path.suffix == ".keras":
        if (path.parent / RUN_FILE).is_file():
            return _of_run(path.parent, path.name)
        return _of_keras(keras.saving.load_model(path, compile=False), path.name)
    builder, _, tag = name.partition("/")
    tag = weights or tag or "imagenet"
    model = build_model(builder, weights=tag)
    return _of_keras(model, f"{builder}/{tag}")


def _of_run(folder, file=MODEL_FILE):
    run = load_run(folder)
    model = run.model if file == MODEL_FILE else keras.saving.load_model(folder / file)
    known, recipe = preprocessing_of(run.recipe.model), run.recipe
    return Classifier(
        f"{recipe.model} of {folder}",
        run.class_names,
        (recipe.resolution, recipe.resolution),
        recipe.crop_fraction or known.crop_fraction,
        recipe.interpolation or known.interpolation,
        _keras_scores(model),
        model,
        recipe.to_square,
    )


def _of_keras(model, name):
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ValueError(
            "A classifier, with one output (batch, classes), is expected. "
            f"Received: {name} with outputs {model.output_shape}"
        )
    known = preprocessing_of(model)
    height, width = (side or known.resolution for side in model.input_shape[1:3])
    _check_square(height, width, name)
    return Classifier(
        name,
        _labels(model.output_shape[-1]),
        (height, width),
        known.crop_fraction,
        known.interpolation,
        _keras_scores(model),
        model,
    )


def _keras_scores(model):
    def scores(images):
        return np.asarray(model.predict(preprocess_input(images, model), verbose=0))

    return scores


def _of_tflite(path):
    interpreter = open_interpreter(path)
    interpreter.allocate_tensors()
    (image,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(outputs) != 1 or len(outputs[0]["shape"]) != 2:
        shapes = [tuple(map(int, output["shape"])) for output in outputs]
        raise ValueError(
            "A file with one output (1, classes) is expected. "
            f"Received: {path} with outputs {shapes}"
        )
    (output,) = outputs
    metadata = read_metadata(path)
    normalization = metadata.normalization

    def scores(images):
        if normalization is not None:
            images = (images - np.array(normalization.mean)) / np.array(normalization.std)
        rows = []
        for pixels in images:
            interpreter.set_tensor(image["index"], as_input_type(pixels, image)[None])
            interpreter.invoke()
            rows.append(_as_float(interpreter.get_tensor(output["index"])[0], output))
        return np.stack(rows)

    classes = int(output["shape"][-1])
    _, height, width, _ = map(int, image["shape"])
    _check_square(height, width, path)
    crop_fraction, interpolation, to_square = _crop_of_file(path, metadata.about.name, classes)
    return Classifier(
        path.name,
        metadata.labels or _labels(classes),
        (height, width),
        crop_fraction,
        interpolation,
        scores,
        to_square=to_square,
    )


def _crop_of_file(path, name, classes):
    """Crop fraction, interpolation and way to a square: those of the run beside the file.

    Elsewhere all of the picture, as MediaPipe gives it, or for ImageNet's classes its square.
    """
    if (path.parent / RUN_FILE).is_file():
        recipe = json.loads((path.parent / RUN_FILE).read_text(encoding="utf-8"))["recipe"]
        known = preprocessing_of(recipe["model"])
        return (
            recipe["crop_fraction"] or known.crop_fraction,
            recipe["interpolation"] or known.interpolation,
            recipe.get("to_square", CROP),  # runs of before know none
        )
    to_square = CROP if classes == IMAGENET_CLASSES else STRETCH
    try:
        return 1.0, preprocessing_of(name).interpolation, to_square
    except ValueError:  # none of this package's
        return 1.0, "bilinear", to_square


def _check_square(height, width, name):
    if height != width:
        raise ValueError(
            f"A square input is expected. Received: {name}, of {height} x {width} pixels"
        )


def as_input_type(pixels: np.ndarray, detail: dict) -> np.ndarray:
    """Pixels as the file's input takes them."""
    dtype = detail["dtype"]
    if np.issubdtype(dtype, np.floating):
        return pixels.astype(dtype)
    scale, zero = detail["quantization"]
    if scale and dtype == np.int8:
        pixels = pixels / scale + zero
    limits = np.iinfo(dtype)
    return np.clip(np.round(pixels), limits.min, limits.max).astype(dtype)


def _as_float(values, detail):
    if np.issubdtype(values.dtype, np.floating):
        return values
    scale, zero = detail["quantization"]
    return scale * (values.astype("float32") - zero)


def _labels(classes):
    """ImageNet's names for as many classes as it has, numbers for others."""
    if classes == IMAGENET_CLASSES:
        return tuple(names.split(", ")[0] for _, names in imagenet_classes())
    return tuple(f"class {index}" for index in range(classes))
