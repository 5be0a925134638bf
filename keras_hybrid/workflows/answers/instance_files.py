"""A Mask R-CNN in files, one or three, and what it says of pictures."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_hybrid.export.metadata import read_metadata
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.tasks.detection.detect import place_image
from keras_hybrid.tasks.detection.post_processing import Detections
from keras_hybrid.tasks.detection.systems import RETINANET
from keras_hybrid.tasks.instances.detect import in_pixels
from keras_hybrid.tasks.instances.host_loop import FIRST, LABELS, RULES, InstanceFiles
from keras_hybrid.workflows.answers.file_pictures import as_file_takes, before_file

Finder = Callable[[Sequence[np.ndarray]], list[Detections]]


def is_parts_folder(path: str | os.PathLike) -> bool:
    """Whether a folder has the three files of a Mask R-CNN, as `export_instances` writes them."""
    folder = Path(path)
    return (folder / RULES).is_file() and (folder / FIRST).is_file()


def open_instances_file(path: Path, record: dict) -> Finder:
    """A Mask R-CNN in one file.

    Args:
        path: of the file.
        record: of it.

    Returns: from pictures, RGB of 0 to 255, to what is in each.

    Raises:
        ValueError: for a file that does not say how its images are normalized.
    """
    about = record["instances"]
    padding, size = about["padding"], tuple(about["input_size"])
    before = before_file(record, padding, path)

    def find(pictures):
        placed = [place_image(picture, RETINANET, size, before) for picture in pictures]
        images = np.stack([image for image, _ in placed])
        outputs = run_tflite(path, as_file_takes(images, record, padding))
        return [in_pixels(outputs, index, place) for index, (_, place) in enumerate(placed)]

    return find


def open_parts_folder(folder: Path) -> tuple[Finder, tuple[str, ...], int]:
    """A Mask R-CNN in three files.

    Args:
        folder: of `export_instances`.

    Returns: from pictures, RGB of 0 to 255, to what is in each; the names of its classes, none
        where nobody says; and how many there are.

    Raises:
        ValueError: for a folder that lacks a file, or does not say how its images are normalized.
    """
    files = InstanceFiles(folder)
    record = read_metadata(folder / FIRST).record
    padding = files.rules.padding
    before = before_file(record, padding, folder / FIRST)
    size = (files.rules.height, files.rules.width)

    def find_one(picture):
        image, place = place_image(picture, RETINANET, size, before)
        found = files.find(as_file_takes(image[None], record, padding)[0], place.size)
        return in_pixels({kind: x[None] for kind, x in found.items()}, 0, place)

    labels = folder / LABELS
    names = labels.read_text(encoding="utf-8-sig").splitlines() if labels.is_file() else []

    def find(pictures):
        return [find_one(picture) for picture in pictures]

    return find, tuple(names), files.rules.classes
