"""Boxes in Pascal VOC's XML: one file a picture."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from keras_hybrid.image_files import SUFFIXES
from keras_hybrid.training.data.detection.annotated_images import Annotation, Problems

FORMAT = "Pascal VOC XML"


def is_voc(path: Path) -> bool:
    """Whether an XML file is an annotation of a picture."""
    try:
        return ElementTree.parse(path).getroot().tag == "annotation"
    except (OSError, ElementTree.ParseError):
        return False


def names_in(files: list[Path], problems: Problems) -> set[str]:
    """Names of the classes that annotations have."""
    found = set()
    for path in files:
        root = _root(path, problems)
        if root is not None:
            found |= {each.findtext("name", "").strip() for each in root.iter("object")}
    return found


def read_voc(
    files: list[Path], names: tuple[str, ...], folders: list[Path], problems: Problems
) -> list[Annotation]:
    """The annotations of files. Coordinates count pixels from 1, and the last one is inside.

    Args:
        files: of XML.
        names: of the classes, in the order of their labels.
        folders: where the pictures are, beside the annotation's own folder.
        problems: gets what looks wrong.

    Raises:
        ValueError: for a class that is not among `names`.
    """
    found = []
    for path in files:
        root = _root(path, None)
        if root is None:
            continue
        boxes, labels = [], []
        for each in root.iter("object"):
            name = each.findtext("name", "").strip()
            if name not in names:
                raise ValueError(
                    f"Every box needs one of the classes {names}. "
                    f"Received: {path} with a box of {name!r}"
                )
            boxes.append(_box(each.find("bndbox")))
            labels.append(names.index(name))
        found.append(
            Annotation(
                _picture(path, root, folders),
                np.array(boxes, "float64").reshape(-1, 4),
                np.array(labels, "int64"),
                _size(root),
            )
        )
    return found


def _root(path, problems):
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError:
        if problems is not None:
            problems.add("annotations cannot be read, and are left out", path.name)
        return None


def _box(element):
    """Corners; not numbers where one is missing."""
    values = []
    for corner in ("xmin", "ymin", "xmax", "ymax"):
        text = None if element is None else element.findtext(corner)
        try:
            values.append(float(text))
        except (TypeError, ValueError):
            values.append(np.nan)
    x1, y1, x2, y2 = values
    return x1 - 1, y1 - 1, x2, y2


def _size(root):
    """Height and width that the annotation is of; None where it does not say, or says 0."""
    try:
        size = tuple(int(root.findtext(f"size/{side}", "0")) for side in ("height", "width"))
    except ValueError:
        return None
    return size if all(size) else None


def _picture(path, root, folders):
    name = root.findtext("filename", "").strip()
    places = [folder for folder in (*folders, path.parent)]
    named = [folder / name for folder in places] if name else []
    beside = [folder / f"{path.stem}{suffix}" for folder in places for suffix in SUFFIXES]
    found = next((file for file in (*named, *beside) if file.is_file()), None)
    return found or path.with_name(name or f"{path.stem}.jpg")
