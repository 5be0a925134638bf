"""What a data set for detection is: images with boxes, in splits."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.training.data.image_source import ImageSource


@dataclass(frozen=True)
class DetectionSource(ImageSource):
    """Images with the boxes of their objects, in splits.

    An example holds "image", an encoded file, and its objects: "boxes" (n, 4), float32, corners x1,
    y1, x2, y2 as shares of the image's width and height as `decode_tensor` shows it; "labels" (n,),
    int64; "crowd" (n,), truth values; "areas" (n,), float32, in pixels, NaN for the boxes' own;
    and where `has_masks` "masks" (n, H, W), uint8 of 0 and 1, of the image as it is shown.

    Attributes:
        count_objects: from a split's name to how many objects of each image are no crowds, (n,).
        has_masks: whether objects come with their masks.
    """

    count_objects: Callable[[str], np.ndarray] | None = None
    has_masks: bool = False

    def counts(self, split: str) -> np.ndarray:
        """How many objects of each image of a split are trained on, (n,); read where not known.

        Raises:
            ValueError: for an unknown split.
        """
        if self.count_objects is not None:
            return self.count_objects(split)
        found = self.split(split).map(
            lambda example: tf.reduce_sum(tf.cast(~example["crowd"], tf.int64))
        )
        return np.fromiter(found.as_numpy_iterator(), "int64")


def objects_of(example: dict, height: int, width: int) -> Objects:
    """The objects of an example, in pixels of its image.

    Args:
        example: of a `DetectionSource`, as NumPy arrays.
        height: of the image, in pixels.
        width: likewise.
    """
    boxes = np.asarray(example["boxes"], "float32") * np.array([width, height] * 2, "float32")
    areas = np.asarray(example["areas"], "float32")
    areas = np.where(np.isnan(areas), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), areas)
    return Objects(boxes, example["labels"], example["crowd"], areas, example.get("masks"))


def with_objects(source: DetectionSource) -> DetectionSource:
    """The set without training images that have no object; a note says how many there were.

    Raises:
        ValueError: where no image is left.
    """
    kept = np.flatnonzero(source.counts("train"))
    empty = source.sizes["train"] - len(kept)
    if not empty:
        return source
    if not len(kept):
        raise ValueError(
            f"Images with boxes are expected to train on. Received: {source.name} with none"
        )

    def open_reader(split):
        read = source.reader(split)
        if split != "train":
            return read
        places = tf.constant(kept)
        return lambda place: read(places[place])

    counts = source.count_objects
    return dataclasses.replace(
        source,
        sizes={**source.sizes, "train": len(kept)},
        open_split=None,
        open_reader=open_reader,
        notes=(*source.notes, f"{empty} images of train have no objects, and are left out"),
        count_objects=counts and (lambda split: counts(split)[kept if split == "train" else ...]),
    )
