"""Where images come from: the digits, class folders, or any classification set of TFDS."""

import os
from pathlib import Path

from keras_hybrid.files import is_bucket
from keras_hybrid.training.data.folder import read_folder
from keras_hybrid.training.data.image_source import ImageSource

FOLDER_PREFIX = "folder:"


def open_source(data: str, data_dir: str | None = None) -> ImageSource:
    """Opens, and where needed prepares, a classification data set.

    Args:
        data: "digits", a folder of class folders, its path alone or after "folder:", or the name
            of a TFDS set such as "imagenet2012" or "cifar10". A set without a split to evaluate on
            gives a fifth of its training images for that, always the same ones.
        data_dir: TFDS' folder of prepared sets, where it is also kept which files of a folder are
            images; None for TFDS' default.

    Raises:
        ValueError: for an unknown set, or one without images and labels.
    """
    data = os.fspath(data)
    if data.startswith(FOLDER_PREFIX) or is_bucket(data):
        return _open_folder(data.removeprefix(FOLDER_PREFIX), data_dir)
    if os.sep in data and Path(data).expanduser().is_dir():
        return _open_folder(data, data_dir)
    from keras_hybrid.training.data.tfds_source import open_tfds  # slow to import

    return open_tfds(data, data_dir)


def _open_folder(path, data_dir):
    cache = data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    folder = read_folder(path, cache)
    return ImageSource(
        f"{FOLDER_PREFIX}{Path(path).expanduser().resolve()}",
        folder.class_names,
        {name: len(files) for name, files in folder.splits.items()},
        open_reader=lambda split: folder.splits[split].reader(),
        notes=folder.notes,
        fingerprint=folder.fingerprint,
    )
