"""Does a `.tflite` compute what the Keras model computes, on the same images?"""

import os
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_hybrid.layers.resizing import resize
from keras_hybrid.litert import open_interpreter
from keras_hybrid.tasks.segmentation.protocol import protocol_of
from keras_hybrid.weights.preprocessing import preprocess_input


@dataclass(frozen=True)
class Difference:
    """An image that Keras and the file put into different classes.

    Of label maps it is the pixel of the image where Keras' margin is the largest.

    Attributes:
        index: of the image.
        keras_class: the class of Keras' highest score.
        tflite_class: the class of the file's highest score.
        margin: by how much Keras preferred its class to the file's, in Keras' scores.
    """

    index: int
    keras_class: int
    tflite_class: int
    margin: float


@dataclass(frozen=True)
class Verification:
    """What `verify_tflite` found.

    Attributes:
        agreeing: images of the same class in both, or pixels.
        total: images or pixels.
        differing: the images with other classes, in order.
        relative_error: largest difference of any output value, over Keras' largest; 0 where the
            file gives labels alone.
        unit: "images", or "pixels" of a segmentation network.
    """

    agreeing: int
    total: int
    differing: tuple[Difference, ...]
    relative_error: float
    unit: str = "images"

    @property
    def agreement(self) -> float:
        """Share of images, or pixels, of the same class."""
        return self.agreeing / self.total

    def passes(self, agreement: float, tolerance: float) -> bool:
        """Whether at least that share has the same class, and no score differs by more."""
        return self.agreement >= agreement and self.relative_error <= tolerance

    def text(self) -> str:
        """The lines that tell it to a user."""
        lines = [
            f"{self.agreeing} of {self.total} {self.unit} in the same class, "
            f"largest difference {self.relative_error:.2g} of the largest score"
        ]
        lines += [
            f"  image {item.index}: Keras says {item.keras_class}, the file {item.tflite_class}; "
            f"Keras' margin {item.margin:.2g}"
            for item in self.differing
        ]
        return "\n".join(lines)


def run_tflite(
    path: str | os.PathLike, images, num_threads: int = 1, xnnpack: bool = True
) -> dict[str, np.ndarray]:
    """Runs a `.tflite` on images, one at a time.

    Args:
        path: of the file; its batch size is 1.
        images: (n, H, W, 3) of values that the file's input takes; integers are cast. For a file
            of several inputs a dictionary of such, by the inputs' names in its signature.
        num_threads: of the interpreter.
        xnnpack: whether the XNNPACK delegate takes what it can.

    Returns: the outputs by their name in the file's signature, each (n, ...).

    Raises:
        ValueError: for images that do not fit the file.
    """
    interpreter = open_interpreter(path, num_threads, xnnpack)
    signature = next(iter(interpreter.get_signature_list()), None)
    runner = interpreter.get_signature_runner(signature)
    details = runner.get_input_details()
    if not isinstance(images, dict):
        if len(details) != 1:
            raise ValueError(
                "A file of several inputs takes a dictionary by their names. "
                f"Received: an array for the inputs {sorted(details)}"
            )
        images = {next(iter(details)): images}
    if set(images) != set(details):
        raise ValueError(
            f"The file's inputs are {sorted(details)}. Received: images for {sorted(images)}"
        )
    images = {name: np.asarray(values) for name, values in images.items()}
    for name, values in images.items():
        wanted = tuple(int(size) for size in details[name]["shape"][1:])
        if len(values) == 0 or values.shape[1:] != wanted:
            raise ValueError(
                f"The file takes images of shape {wanted}. Received: images of shape {values.shape}"
            )
    (count, *others) = {len(values) for values in images.values()}
    if others:
        raise ValueError(
            "As many images for each input are expected. "
            f"Received: { ({name: len(values) for name, values in images.items()}) }"
        )
    results = [
        runner(
            **{
                name: values[index][None].astype(details[name]["dtype"])
                for name, values in images.items()
            }
        )
        for index in range(count)
    ]
    return {key: np.concatenate([result[key] for result in results]) for key in results[0]}


def verify_tflite(
    path: str | os.PathLike,
    model: keras.Model,
    images: Any,
    preprocessing: bool = False,
    batch_size: int = 32,
) -> Verification:
    """Compares a `.tflite` classifier or segmentation network with the Keras model it is made of.

    Args:
        path: of the file. Of a segmentation network it may give logits, labels or confidence, at
            the head's stride or the image's size.
        model: the Keras model, with one output (batch, classes) or (batch, h, w, classes); or with
            "logits" among several.
        images: (n, H, W, 3). What the model takes, or, for a file with its preprocessing inside,
            RGB images of values 0 to 255.
        preprocessing: whether the file has its preprocessing inside.
        batch_size: of the Keras model's prediction.

    Returns: a `Verification`.

    Raises:
        ValueError: for images that do not fit, an output that is no class score, or classes that
            differ in number.
    """
    images = np.asarray(images)
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"Images (n, H, W, 3) are expected. Received: shape {images.shape}")
    outputs = run_tflite(path, images)
    inputs = preprocess_input(images, model) if preprocessing else images
    expected = model.predict(inputs, batch_size=batch_size, verbose=0)
    if isinstance(expected, dict):
        expected = expected.get("logits")
    if getattr(expected, "ndim", 0) == 4 and len(outputs) == 1:
        return _of_masks(next(iter(outputs.items())), expected, model, images.shape[1:3])
    if not isinstance(expected, np.ndarray) or expected.ndim != 2 or len(outputs) != 1:
        raise ValueError(
            "One output (batch, classes) or (batch, h, w, classes) is expected of model and file. "
            f"Received: {model.name} with outputs {model.output_shape}, file with {len(outputs)}"
        )
    (actual,) = outputs.values()
    if actual.shape != expected.shape:
        raise ValueError(
            "The file's output must have the model's shape. "
            f"Received: {actual.shape} from the file, {expected.shape} from {model.name}"
        )
    keras_classes, tflite_classes = expected.argmax(-1), actual.argmax(-1)
    differing = tuple(
        Difference(
            index=int(index),
            keras_class=int(keras_classes[index]),
            tflite_class=int(tflite_classes[index]),
            margin=float(
                expected[index, keras_classes[index]] - expected[index, tflite_classes[index]]
            ),
        )
        for index in np.flatnonzero(keras_classes != tflite_classes)
    )
    return Verification(
        agreeing=len(images) - len(differing),
        total=len(images),
        differing=differing,
        relative_error=float(np.abs(actual - expected).max() / np.abs(expected).max()),
    )


def _of_masks(output, logits, model, image_size):
    """The same for label maps: pixels are counted, at the size that the file gives."""
    name, actual = output
    size = actual.shape[1:3]
    gives_labels = name == "labels"
    if actual.ndim != (3 if gives_labels else 4) or size not in (logits.shape[1:3], image_size):
        raise ValueError(
            "One output is expected of the file: masks of the model's size or of the image's. "
            f"Received: {name} of shape {actual.shape} from the file, {logits.shape} from "
            f"{model.name}"
        )
    if size != logits.shape[1:3]:
        _, interpolation = protocol_of(model).stretches[0]
        logits = keras.ops.convert_to_numpy(resize(logits, *size, interpolation))
    expected = logits
    if name == "confidence":
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits, axis=-1))
    if not gives_labels and actual.shape != expected.shape:
        raise ValueError(
            "The file's output must have the model's classes. "
            f"Received: {actual.shape} from the file, {expected.shape} from {model.name}"
        )
    ours, theirs = expected.argmax(-1), actual if gives_labels else actual.argmax(-1)
    differs = ours != theirs
    best = np.take_along_axis(expected, ours[..., None], -1)[..., 0]
    margins = best - np.take_along_axis(expected, theirs[..., None].astype(int), -1)[..., 0]
    differing = []
    for index in np.flatnonzero(differs.any(axis=(1, 2))):
        worst = np.unravel_index(np.argmax(margins[index]), size)
        place = (index, *worst)
        differing.append(
            Difference(int(index), int(ours[place]), int(theirs[place]), float(margins[place]))
        )
    error = 0.0 if gives_labels else float(np.abs(actual - expected).max() / abs(expected).max())
    return Verification(int(np.sum(~differs)), differs.size, tuple(differing), error, "pixels")
