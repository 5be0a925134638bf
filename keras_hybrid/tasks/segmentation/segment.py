"""Label maps of images, each at its own size, by the published evaluation of the network."""

import itertools
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_hybrid.tasks.pictures import Image, check_batch_size, list_of_images, pixels_of
from keras_hybrid.tasks.segmentation.protocol import SegmentationProtocol, protocol_of
from keras_hybrid.tasks.segmentation.stretching import labels_of
from keras_hybrid.weights.family import Preprocessing, Preset
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of

BATCH_SIZE = 4


def segment(
    model: keras.Model,
    images: Image | Sequence[Image],
    *,
    protocol: SegmentationProtocol | None = None,
    preprocessing: str | Preset | Preprocessing | None = None,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray | list[np.ndarray]:
    """The class of every pixel of images.

    Args:
        model: a segmentation network, (batch, H, W, 3) -> logits (batch, h, w, classes), alone or
            as "logits" of several outputs.
        images: one image or a sequence of such, of any sizes: the path of a file, or
            (height, width, 3), RGB of 0 to 255, an array or tensor of any number type.
        protocol: the sizes that images and logits go through; None for the published evaluation
            of the network (`keras_hybrid.tasks.segmentation.protocol.protocol_of`).
        preprocessing: what pixels become, anything that `keras_hybrid.preprocess_input` takes for
            a model; None for the model's own.
        batch_size: images of one size that the network sees at once.

    Returns: (height, width) of class numbers for one image; an array (n, height, width) for an
    array of n images; else a list. uint8, of 255 classes and more uint16.

    Raises:
        ValueError: for a network of other outputs or of one class, and for images of other shapes
            or of values that are not pixels'.
        ImageFileError: for a file that is no image; it names the file.

    Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.3; iFormer
    (https://arxiv.org/abs/2501.15369), Section 4.3.
    """
    check_segmentation_model(model)
    check_batch_size(batch_size)
    protocol = protocol or protocol_of(model)
    known = preprocessing_of(preprocessing or model)
    given, single = list_of_images(images)
    maps = list(_segmented(model, given, protocol, known, batch_size))
    if single:
        return maps[0]
    return np.stack(maps) if len(getattr(images, "shape", ())) == 4 else maps


def check_segmentation_model(model: keras.Model) -> int:
    """The number of classes of a segmentation network.

    Raises:
        ValueError: for what is none, or has one class only.
    """
    logits = _logits(model.output)
    shape = tuple(getattr(logits, "shape", ()))
    if len(model.inputs) != 1 or len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            "A network of one image that gives logits (batch, h, w, classes) is expected, such as "
            f"of `keras_hybrid.deeplabv3`. Received: {model.name} with outputs {model.output_shape}"
        )
    if shape[-1] < 2:
        raise ValueError(
            "The best of one class is always that one: give the network 2 classes or more, the "
            f"first for what is nothing. Received: {model.name} with classes={shape[-1]}"
        )
    return shape[-1]


def _segmented(model, images, protocol, known, batch_size) -> Iterator[np.ndarray]:
    """The label maps, in order; neighbors that the network sees in one size go together."""
    sized = ((image, protocol.input_size(*image.shape[:2])) for image in map(pixels_of, images))
    for size, group in itertools.groupby(sized, key=lambda pair: pair[1]):
        while batch := [image for image, _ in itertools.islice(group, batch_size)]:
            inputs = np.concatenate([_resized(x, size, protocol.antialias) for x in batch])
            outputs = model(preprocess_input(inputs, known), training=False)
            logits = keras.ops.convert_to_numpy(keras.ops.cast(_logits(outputs), "float32"))
            for image, one in zip(batch, logits, strict=True):
                places = {"input": size, "image": image.shape[:2]}
                yield labels_of(one, [(*places[p], kind) for p, kind in protocol.stretches])


def _logits(outputs):
    return outputs.get("logits") if isinstance(outputs, dict) else outputs


def _resized(image, size, antialias):
    """(1, *size, 3): between pixels' centers."""
    if image.shape[:2] == tuple(size):
        return image[None]
    return keras.ops.convert_to_numpy(
        keras.ops.image.resize(
            image[None],
            size,
            interpolation="bilinear",
            antialias=antialias,
            data_format="channels_last",
        )
    )
