"""Boxes and masks in COCO's JSON: one file a split."""

import json
from pathlib import Path

import numpy as np

from keras_hybrid.training.data.detection.annotated_images import Annotation, Problems

FORMAT = "COCO JSON"
_KEYS = {"images", "annotations", "categories"}


def is_coco(path: Path) -> bool:
    """Whether a JSON file holds COCO's lists of pictures, boxes and classes."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and set(content) >= _KEYS


def class_names(path: Path) -> tuple[str, ...]:
    """Names of the classes of a file, in rising order of their numbers."""
    categories = _content(path)["categories"]
    return tuple(each["name"] for each in sorted(categories, key=lambda each: each["id"]))


def read_coco(
    path: Path,
    names: tuple[str, ...],
    folders: list[Path],
    problems: Problems,
    masks: bool = False,
) -> list[Annotation]:
    """The annotations of a file.

    Args:
        path: of the JSON.
        names: of the classes, in the order of their labels.
        folders: where the pictures are; the first that has a picture's file is taken.
        problems: gets what looks wrong.
        masks: whether segmentations are wanted, too.

    Raises:
        ValueError: for boxes of classes or pictures that the file does not list, classes that are
            not among `names`, and entries without what COCO's have.
    """
    content = _content(path)
    try:
        categories = {each["id"]: each["name"] for each in content["categories"]}
        images = {each["id"]: each for each in content["images"]}
        found: dict = {number: [] for number in images}
        for each in content["annotations"]:
            if each["image_id"] not in found:
                problems.add("boxes belong to no picture, and are left out, in", path.name)
                continue
            found[each["image_id"]].append(each)
        unknown = sorted({a["category_id"] for a in content["annotations"]} - set(categories))
    except (KeyError, TypeError) as error:
        raise ValueError(
            "Entries with what COCO's have are expected: pictures with id and file_name, boxes "
            "with image_id, category_id and bbox, classes with id and name. "
            f"Received: {path} without {error}"
        ) from error
    if unknown:
        raise ValueError(
            "Every box needs a class that the file lists. "
            f"Received: {path} with boxes of the classes {unknown}, listed are {sorted(categories)}"
        )
    if strangers := sorted(set(categories.values()) - set(names)):
        raise ValueError(
            f"All splits must have the classes of training, {names}. "
            f"Received: {path} with {strangers} besides"
        )
    return [
        _annotation(path, images[n], found[n], categories, names, folders, masks) for n in images
    ]


def _annotation(path, image, annotations, categories, names, folders, masks):
    file = image["file_name"]
    picture = next((folder / file for folder in folders if (folder / file).is_file()), None)
    boxes = np.array([each["bbox"] for each in annotations], "float64")
    if boxes.size and boxes.shape != (len(annotations), 4):
        raise ValueError(
            f"Boxes of four numbers, x, y, width and height, are expected. Received: {path} with "
            f"others of {file}"
        )
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    size = (image["height"], image["width"]) if {"height", "width"} <= set(image) else None
    areas = [each.get("area") for each in annotations]
    return Annotation(
        picture or folders[0] / file,
        boxes,
        np.array([names.index(categories[each["category_id"]]) for each in annotations], "int64"),
        size,
        crowd=np.array([bool(each.get("iscrowd", 0)) for each in annotations], bool),
        areas=None if None in areas else np.array(areas, "float32"),
        segmentations=[each.get("segmentation") for each in annotations] if masks else None,
    )


def _content(path):
    return json.loads(path.read_text("utf-8"))
