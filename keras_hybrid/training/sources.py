"""Where images come from: the digits, or any classification set of TFDS."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

EVALUATION_SPLITS = ("validation", "val", "test")


@dataclass(frozen=True)
class ImageSource:
    """Labelled images in splits.

    Attributes:
        name: what was opened.
        class_names: a name for each label.
        sizes: number of images in each split.
        open_split: from a split's name to its dataset, in an order that never changes, of
            {"image": encoded file, a string; "label": int64}.
    """

    name: str
    class_names: tuple[str, ...]
    sizes: dict[str, int]
    open_split: Callable[[str], tf.data.Dataset]

    def split(self, name: str) -> tf.data.Dataset:
        """The examples of a split, images still encoded.

        Raises:
            ValueError: for an unknown split.
        """
        if name not in self.sizes:
            raise ValueError(
                f"`{self.name}` has the splits {sorted(self.sizes)}. Received: split={name!r}"
            )
        return self.open_split(name)

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


def open_source(data: str, data_dir: str | None = None) -> ImageSource:
    """Opens, and where needed prepares, a classification data set.

    Args:
        data: "digits", or the name of a TFDS set such as "imagenet2012" or "cifar10".
        data_dir: TFDS' folder of prepared sets; None for its default.

    Raises:
        ValueError: for an unknown set, or one without images and labels.
    """
    return _open_tfds(data, data_dir)


def _open_tfds(data, data_dir):
    import tensorflow_datasets as tfds  # slow to import

    if data == "digits":
        from keras_hybrid.training.digits.digits_dataset_builder import Builder

        builder = Builder(data_dir=data_dir)
    else:
        try:
            builder = tfds.builder(data, data_dir=data_dir)
        except tfds.core.DatasetNotFoundError as error:
            raise ValueError(
                "`data` must be 'digits' or the name of a TFDS set. "
                f"Received: data={data!r}, which TFDS does not know"
            ) from error
    features = builder.info.features
    if features is None or "image" not in features or "label" not in features:
        raise ValueError(
            "A classification set has the features 'image' and 'label'. "
            f"Received: data={data!r} with {sorted(features or ())}"
        )
    builder.download_and_prepare()

    def open_split(split):
        examples = builder.as_dataset(
            split=split,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        return examples.map(lambda example: {"image": example["image"], "label": example["label"]})

    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    return ImageSource(data, tuple(features["label"].names), sizes, open_split)
