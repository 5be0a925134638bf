"""What a data set for detection is: images with boxes, in splits."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_hybrid.image_files import shown_size
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.recipe.objects import ObjectRecipe


@dataclass(frozen=True)
class DetectionSource(ImageSource):
    """Images with the boxes of their objects, in splits.

    An example holds "image", an encoded file, and its objects: "boxes" (n, 4), float32, corners x1,
    y1, x2, y2 as shares of the image's width and height as `decode_tensor` shows it; "labels" (n,),
    int64; "crowd" (n,), truth values; "areas" (n,), float32, in pixels, NaN for the boxes' own;
    and where `has_masks` "masks" (n, H, W), uint8 of 0 and 1, of the image as it is shown.

    Attributes:
        count_objects: from a split's name to how many objects of each image are no crowds, (n,).
        find_upright: from a split's name to which images are higher than wide, as they are shown,
            (n,), truth values.
        has_masks: whether objects come with their masks.
    """

    count_objects: Callable[[str], np.ndarray] | None = None
    find_upright: Callable[[str], np.ndarray] | None = None
    has_masks: bool = False

    def counts(self, split: str) -> np.ndarray:
        """How many objects of each image of a split are trained on, (n,); read where not known.

        Raises:
            ValueError: for an unknown split.
        """
        if self.count_objects is not None:
            return self.count_objects(split)
        return self._looked_through(split)[0]

    def upright(self, split: str) -> np.ndarray:
        """Which images of a split are higher than wide, (n,), by their headers if not known.

        Raises:
            ValueError: for an unknown split.
        """
        if self.find_upright is not None:
            return self.find_upright(split)
        return self._looked_through(split)[1]

    def groups(self, name, recipe):
        is_of_two = isinstance(recipe, ObjectRecipe) and recipe.shorter_side is not None
        return self.upright(name) if is_of_two else None

    def _looked_through(self, split):
        """Objects and orientation of each image: a split is read once for both."""
        if ("looked through", split) not in self._held:
            found = self.split(split).map(
                lambda example: (
                    tf.reduce_sum(tf.cast(~example["crowd"], tf.int64)),
                    tf.numpy_function(_is_upright, [example["image"]], tf.bool, stateful=False),
                ),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            pairs = np.array([tuple(map(int, pair)) for pair in found.as_numpy_iterator()], "int64")
            counts, upright = pairs.reshape(-1, 2).T
            self._held["looked through", split] = counts, upright.astype(bool)
        return self._held["looked through", split]


def _is_upright(content):
    height, width = shown_size(content)
    return height > width


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

    def of_kept(values, split):
        return values[kept] if split == "train" else values

    return dataclasses.replace(
        source,
        sizes={**source.sizes, "train": len(kept)},
        open_split=None,
        open_reader=open_reader,
        notes=(*source.notes, f"{empty} images of train have no objects, and are left out"),
        count_objects=lambda split: of_kept(source.counts(split), split),
        find_upright=lambda split: of_kept(source.upright(split), split),
    )
