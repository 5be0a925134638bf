"""The published evaluation protocol: resize the shorter side, cut out the centre, count."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import numpy.typing as npt

from keras_hybrid.image_files import SUFFIXES, decode_tensor
from keras_hybrid.weights.family import Preprocessing, Preset
from keras_hybrid.weights.labels import imagenet_classes
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of

if TYPE_CHECKING:
    import tensorflow as tf


def evaluation_image(
    image: "npt.ArrayLike | tf.Tensor",
    model: keras.Model | str | Preset | Preprocessing,
    resolution: int | None = None,
) -> "tf.Tensor":
    """Resizes and crops an image as the published accuracy was measured.

    The shorter side becomes floor(resolution / crop_fraction) pixels, with the preset's
    interpolation and antialiasing; then the central square is cut out. Agrees with PIL's `resize`
    and torchvision's `Resize` and `CenterCrop` to within one level out of 255 (two in rare ties):
    horizontally, then vertically, each pass rounded and clipped as PIL does. Works eagerly
    and in `tf.data`.

    Args:
        image: (H, W, 3), RGB, 0 to 255, an array or a TensorFlow tensor of any number type.
        model: whose protocol: anything that `preprocessing_of` takes.
        resolution: side of the square; None for the preset's.

    Returns: a TensorFlow tensor (resolution, resolution, 3), float32 of whole values 0 to 255;
        `preprocess_input` makes it a network's input.

    Raises:
        ValueError: for an image of another shape, an unknown model, or a resolution under 1.
    """
    import tensorflow as tf

    preprocessing = preprocessing_of(model)
    resolution = preprocessing.resolution if resolution is None else resolution
    if not isinstance(resolution, int) or resolution < 1:
        raise ValueError(
            f"`resolution` must be a positive integer. Received: resolution={resolution!r}"
        )
    image = tf.convert_to_tensor(image)
    if image.shape.rank != 3 or image.shape[-1] != 3:
        raise ValueError(f"An image (H, W, 3) is expected. Received: shape {tuple(image.shape)}")
    # The small addition keeps 256 / (256 / 288) at 288.
    shorter = math.floor(resolution / preprocessing.crop_fraction + 1e-6)
    size = tf.shape(image)[:2]
    size = size * shorter // tf.reduce_min(size)
    for target in ((tf.shape(image)[0], size[1]), size):
        image = tf.image.resize(image, target, preprocessing.interpolation, antialias=True)
        image = tf.clip_by_value(tf.floor(image + 0.5), 0.0, 255.0)  # PIL rounds half up
    # As torchvision: half the rest, rounded half to even.
    top, left = tf.unstack(tf.cast(tf.round((size - resolution) / 2), "int32"))
    image = image[top : top + resolution, left : left + resolution]
    return tf.ensure_shape(image, (resolution, resolution, 3))


@dataclass(frozen=True)
class Accuracy:
    """What a published model did on a data set.

    Attributes:
        images: how many it saw.
        top1: share of them whose class it put first.
        top5: share of them whose class is among its first five.
    """

    images: int
    top1: float
    top5: float


def synset_examples(folder: str | os.PathLike):
    """ImageNet-1k images in one folder a class, named by the class' synset.

    The validation set as most mirrors and `torchvision` lay it out; a subset of the classes or of
    the images does, too.

    Args:
        folder: it holds folders such as n01440764 with image files.

    Returns: a dataset of {"image": encoded file, "label": int64} in the order of the names, and
        the number of examples.

    Raises:
        ValueError: for a folder that is missing, has other folders, or no images.
    """
    import tensorflow as tf

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder of that name. Received: {folder}")
    labels_of = {synset: label for label, (synset, _) in enumerate(imagenet_classes())}
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if strangers := [path.name for path in classes if path.name not in labels_of]:
        raise ValueError(
            "The folders must have the names of ImageNet-1k's synsets, such as n01440764. "
            f"Received: {folder} with {', '.join(strangers[:5])}"
        )
    files: list[str] = []
    labels: list[int] = []
    for path in classes:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        files += map(str, found)
        labels += [labels_of[path.name]] * len(found)
    if not files:
        raise ValueError(f"There are no images in folders of synsets. Received: {folder}")
    examples = tf.data.Dataset.from_tensor_slices((files, np.asarray(labels, "int64")))
    return examples.map(_read_example), len(files)


def _read_example(file, label):
    import tensorflow as tf

    return {"image": tf.io.read_file(file), "label": label}


def evaluate_published(
    model: keras.Model, preset: Preset, examples, count: int, batch_size: int = 64
) -> Accuracy:
    """Top-1 and top-5 accuracy of a published model under its published protocol.

    Shows a progress bar with both so far.

    Args:
        model: built with the preset's weights: (batch, H, W, 3) -> (batch, 1000).
        preset: what its images must look like.
        examples: a dataset of {"image": encoded file, "label": integer}, as from
            `synset_examples` or from TFDS without decoding.
        count: number of examples.
        batch_size: images at once; the result does not depend on it.

    Raises:
        ValueError: for a model of other outputs, or without examples.
    """
    import tensorflow as tf

    if model.output_shape[-1] != len(imagenet_classes()) or count < 1:
        raise ValueError(
            "A model of ImageNet-1k's classes and one example or more are expected. "
            f"Received: outputs {model.output_shape}, count={count}"
        )

    def prepare(example):
        image = decode_tensor(example["image"])
        return preprocess_input(evaluation_image(image, preset), preset), example["label"]

    batches = examples.map(prepare, tf.data.AUTOTUNE).batch(batch_size).prefetch(2)
    bar = keras.utils.Progbar(count, stateful_metrics=["top1", "top5"], unit_name="image")
    images = top1 = top5 = 0
    for pixels, labels in batches:
        outputs = np.asarray(model.predict_on_batch(pixels.numpy()))
        first = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
        right = first == labels.numpy()[:, None]
        images += len(right)
        top1 += int(right[:, 0].sum())
        top5 += int(right.any(axis=1).sum())
        bar.update(images, [("top1", top1 / images), ("top5", top5 / images)])
    return Accuracy(images, top1 / images, top5 / images)
