"""A folder of pictures with boxes, whichever of three formats it is in."""

import functools
import hashlib
import os
import warnings
from pathlib import Path

from keras_hybrid.image_files import find_image_files
from keras_hybrid.training.data.detection import coco_json, pascal_voc, yolo
from keras_hybrid.training.data.detection.annotated_images import (
    AnnotatedImage,
    DetectionFolder,
    Problems,
    checked,
)
from keras_hybrid.training.data.layout import TRAIN, VALIDATION, split_name

VALIDATION_SHARE = 0.2
FORMATS = (coco_json.FORMAT, pascal_voc.FORMAT, yolo.FORMAT)


def read_detection_folder(path: str | os.PathLike, masks: bool = False) -> DetectionFolder:
    """The pictures of a folder with their boxes.

    Recognized are COCO JSON (`annotations/instances_train2017.json`, or a JSON in each split's
    folder), Pascal VOC XML (`Annotations` beside `JPEGImages` with `ImageSets/Main`, or XML files
    beside pictures) and YOLO text files (`labels` beside `images`, or beside the pictures, with
    `data.yaml` or `classes.txt`). Splits are told by the names of files and folders; where there
    are none, a fifth of the pictures, told by their names' hash, becomes "validation".

    A warning names what is left out or changed: pictures that are missing, broken or of another
    size than their annotations, boxes outside of the picture or without an area, pictures that lie
    on their side, and how many have no boxes; where masks are wanted, objects whose mask is
    missing, empty, or of another size than the picture.

    Args:
        path: of the folder.
        masks: whether objects' masks are wanted, too, which COCO JSON has as "segmentation":
            polygons, or run lengths, compressed or not.

    Raises:
        ValueError: for a folder of none of these, or of several; for masks of another format than
            COCO JSON; for classes that are not listed; and where no picture with a box is left to
            train on.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"There is no folder of that name. Received: {root}")
    problems = Problems()
    readers = {
        coco_json.FORMAT: functools.partial(_read_coco, masks=masks),
        pascal_voc.FORMAT: _read_voc,
        yolo.FORMAT: _read_yolo,
    }
    found = {name: files for name, files in _files_of_formats(root).items() if files}
    if len(found) != 1:
        raise ValueError(
            f"A folder of one of {FORMATS} is expected. Received: {root} with "
            + (f"files of {tuple(found)}: keep one of them" if found else "none of them")
        )
    ((name, files),) = found.items()
    if masks and name != coco_json.FORMAT:
        raise ValueError(
            f'Masks are read from the "segmentation" of {coco_json.FORMAT}. '
            f"Received: {root} in {name}, which has boxes alone"
        )
    names, annotations = readers[name](root, files, problems)
    splits = {split: checked(each, problems) for split, each in annotations.items()}
    splits = {split: images for split, images in splits.items() if images}
    if set(splits) == {TRAIN}:
        splits = _split(splits[TRAIN])
    if not any(len(image.objects) for image in splits.get(TRAIN, [])):
        raise ValueError(
            "Pictures with boxes are expected to train on. "
            f"Received: {root}, {name}, with none. {'; '.join(problems.notes())}"
        )
    for split, images in splits.items():
        for image in images:
            if not len(image.objects):
                problems.add(f"pictures of {split} have no boxes", image.path.name)
    notes = tuple(problems.notes())
    if notes:
        warnings.warn("; ".join(notes) + ".", stacklevel=2)
    return DetectionFolder(names, splits, name, notes)


def _files_of_formats(root):
    """The annotation files of each format."""
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in (".json", ".xml", ".txt") and path.is_file()
    )
    by_suffix = {
        suffix: [path for path in files if path.suffix.lower() == suffix]
        for suffix in (".json", ".xml", ".txt")
    }
    coco = [path for path in by_suffix[".json"] if coco_json.is_coco(path)]
    voc = [path for path in by_suffix[".xml"] if pascal_voc.is_voc(path)]
    texts = []
    if not coco and not voc:  # text files may be anything: those beside pictures count
        texts = [
            picture for picture in find_image_files(root) if yolo.label_file(picture) is not None
        ]
    return {coco_json.FORMAT: coco, pascal_voc.FORMAT: voc, yolo.FORMAT: texts}


def _read_coco(root, files, problems, masks):
    """Classes and annotations by split, of one file a split."""
    by_split = {}
    for path in files:
        split = _split_of(path, root)
        if split in by_split:
            raise ValueError(
                "One JSON file a split is expected. "
                f"Received: {by_split[split].name} and {path.name} for {split}"
            )
        by_split[split] = path
    names = coco_json.class_names(by_split.get(TRAIN, files[0]))
    folders = sorted({path.parent for path in find_image_files(root)})
    annotations = {}
    for split, path in by_split.items():
        likely = [path.parent, root, *(x for x in folders if split_name_of(x, root) == split)]
        annotations[split] = coco_json.read_coco(path, names, [*likely, *folders], problems, masks)
    return names, annotations


def _read_voc(root, files, problems):
    """Classes and annotations by split, of a file a picture."""
    lists = {
        split_name(path.stem): set(path.read_text("utf-8").split())
        for path in sorted(root.rglob("ImageSets/Main/*.txt"))
        if split_name(path.stem)
    }
    by_split: dict[str, list[Path]] = {}
    for path in files:
        split = next((s for s, stems in lists.items() if path.stem in stems), None)
        if lists and split is None:
            continue
        by_split.setdefault(split or split_name_of(path.parent, root) or TRAIN, []).append(path)
    names = pascal_voc.names_in(by_split.get(TRAIN, []), problems)
    names = tuple(sorted(names))
    folders = sorted({path.parent for path in find_image_files(root)})
    named = {path.stem for path in files}
    for picture in find_image_files(root):
        if picture.stem not in named:
            problems.add("pictures have no annotation, and are left out", picture.name)
    return names, {
        split: pascal_voc.read_voc(each, names, folders, problems)
        for split, each in by_split.items()
    }


def _read_yolo(root, files, problems):
    """Classes and annotations by split, of a file a picture."""
    names = yolo.class_names(root)
    by_split: dict[str, list[Path]] = {}
    for picture in find_image_files(root):
        by_split.setdefault(split_name_of(picture.parent, root) or TRAIN, []).append(picture)
    return names, {
        split: yolo.read_yolo(pictures, names, problems) for split, pictures in by_split.items()
    }


def split_name_of(folder: Path, root: Path) -> str | None:
    """The split that a folder, or one around it inside the root, is called after."""
    for part in reversed(folder.relative_to(root).parts):
        if split := split_name(part) or _beginning(part):
            return split
    return None


def _split_of(path, root):
    """The split of a JSON file: by its name, else by its folder's; training where neither says."""
    words = [word for word in path.stem.lower().replace("-", "_").split("_") if word]
    for word in words:
        if split := split_name(word) or _beginning(word):
            return split
    return split_name_of(path.parent, root) or TRAIN


def _beginning(word):
    """The split of a word such as "train2017"."""
    return split_name(word.rstrip("0123456789"))


def _split(images: list[AnnotatedImage]) -> dict[str, list[AnnotatedImage]]:
    """A fifth of the pictures for validation, the same ones always."""
    order = sorted(
        images, key=lambda image: hashlib.sha256(image.path.name.encode("utf-8")).digest()
    )
    count = max(1, round(VALIDATION_SHARE * len(images)))
    chosen = {id(image) for image in order[:count]} if len(images) > 1 else set()
    splits = {
        TRAIN: [image for image in images if id(image) not in chosen],
        VALIDATION: [image for image in images if id(image) in chosen],
    }
    return {split: found for split, found in splits.items() if found}
