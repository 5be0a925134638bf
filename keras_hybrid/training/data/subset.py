"""A part of a data set: some of its classes, some images of each."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_hybrid.training.data.image_source import ImageSource


def subset(
    source: ImageSource, classes: Sequence[str], images_per_class: int | None = None
) -> ImageSource:
    """Some classes of a data set as a data set of its own; labels count from 0 in the order given.

    Args:
        source: the data set; its labels are read once.
        classes: names of the classes.
        images_per_class: how many training images of each class, the first ones; None for all.
            Other splits stay whole.

    Raises:
        ValueError: for an unknown or repeated class, or one with fewer training images.
    """
    unknown = [name for name in classes if name not in source.class_names]
    if unknown or not classes or len(set(classes)) != len(classes):
        raise ValueError(
            f"Each of `classes` must be another one of {source.class_names}. "
            f"Received: classes={tuple(classes)!r}"
        )
    new_label = np.full(len(source.class_names), -1, "int64")
    for label, name in enumerate(classes):
        new_label[source.class_names.index(name)] = label
    kept = {}
    for split in source.sizes:
        labels = source.split(split).map(lambda example: example["label"])
        labels = new_label[np.fromiter(labels.as_numpy_iterator(), "int64")]
        kept[split] = labels >= 0
        if images_per_class is not None and split == "train":
            for label, name in enumerate(classes):
                places = np.flatnonzero(labels == label)
                if len(places) < images_per_class:
                    raise ValueError(
                        f"The class {name!r} of `{source.name}` has {len(places)} training images. "
                        f"Received: images_per_class={images_per_class!r}"
                    )
                kept[split][places[images_per_class:]] = False

    def open_reader(split):
        read = source.reader(split)
        places, labels = tf.constant(np.flatnonzero(kept[split])), tf.constant(new_label)

        def read_kept(place):
            example = read(places[place])
            return {**example, "label": labels[example["label"]]}

        return read_kept

    name = f"{source.name}, classes {' '.join(classes)}"
    if images_per_class is not None:
        name += f", {images_per_class} images a class"
    sizes = {split: int(mask.sum()) for split, mask in kept.items()}
    return dataclasses.replace(
        source,
        name=name,
        class_names=tuple(classes),
        sizes=sizes,
        open_split=None,
        open_reader=open_reader,
        fingerprint=None,  # the name tells which classes
    )
