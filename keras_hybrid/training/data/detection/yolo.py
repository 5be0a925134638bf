"""Boxes in YOLO's text files: one file a picture, a line a box: class, center, size, as shares."""

import ast
import re
from pathlib import Path

import numpy as np

from keras_hybrid.training.data.detection.annotated_images import Annotation, Problems

FORMAT = "YOLO text"
NAME_LISTS = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")
DATA_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def class_names(root: Path) -> tuple[str, ...]:
    """Names of the classes, of a list of names or of a `data.yaml`.

    Raises:
        ValueError: where there is neither.
    """
    for name in NAME_LISTS:
        for folder in (root, root / "labels", root / "train"):
            if (folder / name).is_file():
                lines = (folder / name).read_text("utf-8").splitlines()
                return tuple(line.strip() for line in lines if line.strip())
    for path in (*(root / name for name in DATA_FILES), *sorted(root.glob("*.y*ml"))):
        if path.is_file() and (names := _names_of_yaml(path)):
            return names
    raise ValueError(
        "YOLO's labels are numbers: the classes' names are expected in data.yaml or classes.txt. "
        f"Received: {root} without either"
    )


def read_yolo(pictures: list[Path], names: tuple[str, ...], problems: Problems) -> list[Annotation]:
    """The annotations of pictures; those without a file have no objects, as YOLO has it.

    Args:
        pictures: files of images.
        names: of the classes, in the order of their labels.
        problems: gets what looks wrong.

    Raises:
        ValueError: for classes beyond the names, and lines of other than five numbers.
    """
    found = []
    for picture in pictures:
        path = label_file(picture)
        rows = _rows(path, names) if path else []
        boxes = np.array([row[1:] for row in rows], "float64").reshape(-1, 4)
        center, half = boxes[:, :2], boxes[:, 2:] / 2
        found.append(
            Annotation(
                picture,
                np.concatenate([center - half, center + half], axis=1),
                np.array([row[0] for row in rows], "int64"),
                shares=True,
            )
        )
    return found


def label_file(picture: Path) -> Path | None:
    """The text file of a picture: beside it, or in `labels` where it is in `images`."""
    beside = picture.with_suffix(".txt")
    if beside.is_file():
        return beside
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() == "images":
            other = Path(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
            return other if other.is_file() else None
    return None


def _rows(path, names):
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            label, *box = map(float, words)
        except ValueError:
            label, box = -1.0, []
        if len(words) > 5 and len(words) % 2 == 1 and box:
            box = _box_of_polygon(np.array(box))
        if len(box) != 4 or label != int(label):
            raise ValueError(
                "Lines of five numbers are expected: class, x, y, width and height. "
                f"Received: {path}, line {number}: {line[:60]!r}"
            )
        if not 0 <= label < len(names):
            raise ValueError(
                f"Every box needs one of the classes 0 to {len(names) - 1}. "
                f"Received: {path}, line {number}, with class {int(label)}"
            )
        rows.append((int(label), *box))
    return rows


def _box_of_polygon(points):
    """Center and size of the box around x, y, x, y, ..."""
    points = points.reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return [*((low + high) / 2), *(high - low)]


def _names_of_yaml(path):
    """What stands after `names:`: a list on the line, or a line for each."""
    lines = path.read_text("utf-8").splitlines()
    for place, line in enumerate(lines):
        if not (match := re.match(r"names\s*:\s*(.*)", line)):
            continue
        if text := match[1].split(" #")[0].strip():
            return _names_of_text(text)
        names = []
        for entry in lines[place + 1 :]:
            if not entry.strip() or entry.lstrip().startswith("#"):
                continue
            if not (inner := re.match(r"\s*(?:-|\d+\s*:)\s*(.+)", entry)):
                break
            names.append(_unquoted(inner[1]))
        return tuple(names)
    return ()


def _names_of_text(text):
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = [_unquoted(word) for word in text.strip("[]").split(",")]
    return tuple(map(str, value.values() if isinstance(value, dict) else value))


def _unquoted(text):
    return text.split(" #")[0].strip().strip("'\"")
