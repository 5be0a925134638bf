"""What a data set is: labelled images in splits, which can be read in any order."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from keras_hybrid.training.recipe.common import CommonRecipe

EVALUATION_SPLITS = ("validation", "val", "valid", "test", "testing")
HELD_BYTES = 1 << 30  # of a split that cannot be read by place, in memory


@dataclass(frozen=True)
class ImageSource:
    """Labelled images in splits.

    Attributes:
        name: what was opened.
        class_names: a name for each label.
        sizes: number of images in each split.
        open_split: from a split's name to its dataset, in an order that never changes, of
            {"image": encoded file, a string; "label": int64}; None where there is `open_reader`.
        open_reader: from a split's name to a function for `tf.data`: the place of an example in
            that order, from 0 -> the example; so an epoch is read in any order. None where the
            split can be read in order only: it is held in memory then.
        notes: what was left out, or looks wrong, a sentence each.
        fingerprint: what tells the data by their content, wherever they lie; None where only the
            name tells them.
    """

    name: str
    class_names: tuple[str, ...]
    sizes: dict[str, int]
    open_split: Callable[[str], tf.data.Dataset] | None = None
    open_reader: Callable[[str], Callable] | None = None
    notes: tuple[str, ...] = ()
    fingerprint: str | None = None
    _held: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def split(self, name: str, skip: int = 0, holds: Callable | None = None) -> tf.data.Dataset:
        """The examples of a split in order, images still encoded.

        Args:
            name: of the split.
            skip: so many examples less at the beginning.
            holds: from an example's place to whether it is wanted; None for all.

        Raises:
            ValueError: for an unknown split.
        """
        self._check(name)
        places = tf.data.Dataset.range(skip, self.sizes[name])
        if self.open_reader is None:
            examples = tf.data.Dataset.zip(places, self.open_split(name).skip(skip))
            if holds is not None:
                examples = examples.filter(lambda place, _: holds(place))
            return examples.map(lambda _, example: example)
        if holds is not None:
            places = places.filter(holds)
        return places.map(self.open_reader(name), num_parallel_calls=tf.data.AUTOTUNE)

    def reader(self, name: str) -> Callable:
        """A function for `tf.data`: an example's place in a split -> the example.

        Raises:
            ValueError: for an unknown split, or one that neither can be read by place nor fits
                into memory.
        """
        self._check(name)
        if self.open_reader is not None:
            return self.open_reader(name)
        if name not in self._held:
            self._held[name] = _hold(self, name)
        return self._held[name]

    def groups(self, name: str, recipe: CommonRecipe) -> np.ndarray | None:
        """The group of each example of a split, (n,): a batch has examples of one group.

        None where any go together.
        """
        return None

    def _check(self, name):
        if name not in self.sizes:
            raise ValueError(
                f"`{self.name}` has the splits {sorted(self.sizes)}. Received: split={name!r}"
            )

    @property
    def evaluation_split(self) -> str:
        """The split to evaluate on while training: "validation", or else "test"."""
        for name in EVALUATION_SPLITS:
            if name in self.sizes:
                return name
        raise ValueError(
            f"`{self.name}` needs one of the splits {EVALUATION_SPLITS}. "
            f"Received: {sorted(self.sizes)}"
        )


def _hold(source, split):
    """A reader of a split that is in memory."""
    content, ends, labels = bytearray(), [], []
    for example in source.open_split(split).as_numpy_iterator():
        content += example["image"]
        ends.append(len(content))
        labels.append(example["label"])
        if len(content) > HELD_BYTES:
            raise ValueError(
                "A whole epoch is shuffled: a data set that can only be read in order must fit "
                "into memory. Give `open_reader`, or use a folder of images or a TFDS set. "
                f"Received: {source.name}, whose split {split!r} has more than {HELD_BYTES} bytes"
            )
    if len(labels) != source.sizes[split]:
        raise ValueError(
            f"The split {split!r} of `{source.name}` must have the {source.sizes[split]} examples "
            f"that `sizes` says. Received: {len(labels)}"
        )
    content = tf.constant(bytes(content))
    starts, ends = tf.constant([0, *ends[:-1]], tf.int64), tf.constant(ends, tf.int64)
    labels = tf.constant(np.asarray(labels, "int64"))

    def read(place):
        start = starts[place]
        image = tf.strings.substr(content, start, ends[place] - start)
        return {"image": image, "label": labels[place]}

    return read
