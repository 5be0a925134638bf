"""Where images come from: the digits, class folders, or any classification set of TFDS."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from keras_hybrid.training.data.folder import folder_examples, read_folder

FOLDER_PREFIX = "folder:"
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
        data: "digits", "folder:" and the path of class folders, or the name of a TFDS set such as
            "imagenet2012" or "cifar10". A set without a split to evaluate on gives a fifth of its
            training images for that, always the same ones.
        data_dir: TFDS' folder of prepared sets, where it is also kept which files of a folder are
            images; None for TFDS' default.

    Raises:
        ValueError: for an unknown set, or one without images and labels.
    """
    if data.startswith(FOLDER_PREFIX):
        return _open_folder(data.removeprefix(FOLDER_PREFIX), data_dir)
    return _open_tfds(data, data_dir)


def _open_folder(path, data_dir):
    cache = data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    class_names, splits = read_folder(path, cache)
    sizes = {name: len(files) for name, files in splits.items()}
    name = f"{FOLDER_PREFIX}{Path(path).expanduser().resolve()}"
    return ImageSource(name, class_names, sizes, lambda split: folder_examples(splits[split]))


def _open_tfds(data, data_dir):
    import tensorflow_datasets as tfds  # slow to import

    if data == "digits":
        from keras_hybrid.training.data.digits.digits_dataset_builder import Builder

        builder = Builder(data_dir=data_dir)
    else:
        try:
            builder = tfds.builder(data, data_dir=data_dir)
        except tfds.core.DatasetNotFoundError as error:
            raise ValueError(
                "`data` must be 'digits', 'folder:' and a path, or the name of a TFDS set. "
                f"Received: data={data!r}, which TFDS does not know"
            ) from error
    features = builder.info.features
    image, label = _image_and_label(builder.info, tfds)
    if label is None:
        raise ValueError(
            "A classification set has an image and a label, as 'image' and 'label' or as its "
            f"supervised keys. Received: data={data!r} with {sorted(features or ())}"
        )
    builder.download_and_prepare()
    parts = {name: name for name in builder.info.splits}
    if not any(name in EVALUATION_SPLITS for name in parts) and "train" in parts:
        # TFDS has shuffled the images: the last fifth is as good as any.
        parts |= {"train": "train[:80%]", "validation": "train[80%:]"}

    def open_split(split):
        examples = builder.as_dataset(
            split=parts[split],
            decoders={image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        return examples.map(lambda example: {"image": example[image], "label": example[label]})

    sizes = {name: builder.info.splits[part].num_examples for name, part in parts.items()}
    return ImageSource(data, tuple(features[label].names), sizes, open_split)


def _image_and_label(info, tfds):
    """The names of the features that hold image and class; two times None where there are none."""
    features = info.features or {}
    keys = info.supervised_keys
    for image, label in (("image", "label"), keys if keys and len(keys) == 2 else (None, None)):
        if (
            image in features
            and label in features
            and isinstance(features[image], tfds.features.Image)
            and isinstance(features[label], tfds.features.ClassLabel)
        ):
            return image, label
    return None, None
