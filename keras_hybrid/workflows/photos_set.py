"""A folder of photos, read and split, and how often an epoch shows each of them."""

import dataclasses
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.training.data.file_list import FileList
from keras_hybrid.training.data.folder import read_folder
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.sources import FOLDER_PREFIX

MEASURED_PHOTOS = 300


@dataclass(frozen=True)
class Photos:
    """Photos in class folders, read and split.

    Attributes:
        source: as training takes it; its "train" split shows each photo once.
        files: of each split, (file, label) in the order of the split.
        left_out: what was found and not used, a sentence each.
    """

    source: ImageSource
    files: dict[str, FileList]
    left_out: tuple[str, ...] = ()

    def counts(self, split: str) -> list[int]:
        """Photos of each class."""
        labels = self.files[split].labels
        return np.bincount(labels, minlength=len(self.source.class_names)).tolist()


def open_photos(path, cache=None, in_splits: bool = True) -> Photos:
    """Reads a folder of photos.

    Args:
        path: of the folder.
        cache: folder where it is kept which files are images; None for TFDS' folder.
        in_splits: of `read_folder`; False for photos that are only measured.

    Raises:
        ValueError: for a folder without class folders or photos.
    """
    cache = cache or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        class_names, splits = read_folder(path, cache, in_splits)
    left_out = tuple(str(item.message) for item in told)
    for text in left_out:
        warnings.warn(text, stacklevel=2)
    sizes = {name: len(files) for name, files in splits.items()}
    name = f"{FOLDER_PREFIX}{Path(path).expanduser().resolve()}"
    source = ImageSource(name, class_names, sizes, open_reader=lambda split: splits[split].reader())
    return Photos(source, splits, left_out)


def shown_source(photos: Photos, counts: Sequence[int], seed: int) -> ImageSource:
    """The source whose "train" split shows each class `counts` times, its photos as evenly as can
    be: an epoch of a plan."""
    photographs = photos.files["train"]
    places = []
    for label, count in enumerate(counts):
        own = np.flatnonzero(photographs.labels == label)
        order = np.random.default_rng([seed, label]).permutation(own)
        places += [order[index % len(own)] for index in range(count)] if len(own) else []
    files, source = photographs.take(places), photos.source

    def open_reader(split):
        return files.reader() if split == "train" else source.open_reader(split)

    sizes = {**source.sizes, "train": len(files)}
    return dataclasses.replace(source, sizes=sizes, open_reader=open_reader)


def short_sides(photos: Photos) -> list[int]:
    """Of an even choice of the training photos, in pixels."""
    from PIL import Image

    files = [file for file, _ in photos.files["train"]]
    sides = []
    for file in files[:: max(1, len(files) // MEASURED_PHOTOS)]:
        with Image.open(file) as image:  # reads the header alone
            sides.append(min(image.size))
    return sides
