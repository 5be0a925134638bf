"""Which folders of a data set are classes, and which are splits that hold classes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_hybrid.image_files import HEIF_SUFFIXES, SUFFIXES, abbreviated, is_ignored

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# Names of the splits as people and programs write them, in any case.
_SPLIT_OF = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
_IMAGE_SUFFIXES = (*SUFFIXES, *HEIF_SUFFIXES)


@dataclass(frozen=True)
class Layout:
    """Where the classes of a folder are.

    Attributes:
        root: the folder that holds them, or the splits: the one given, or one inside.
        splits: from a split's name to its class folders by name; one named None where there are
            no splits.
        notes: what was passed over, a sentence each.
    """

    root: Path
    splits: dict[str | None, dict[str, Path]]
    notes: tuple[str, ...]


def find_layout(path: Path) -> Layout:
    """Tells splits from classes.

    Folders called train, valid, test and the like, in any case, are splits where each of them
    holds folders with images, and classes where they hold images themselves. Where there is but
    one folder, which holds folders with images, that is looked into, as archives have it; so is
    `train` where there is no other split.

    Raises:
        ValueError: for a folder of neither, two folders for one split, or images without folders.
    """
    notes = []
    folders = visible_folders(path)
    while len(folders) == 1 and not _has_images(path):
        (inner,) = folders.values()
        inside = visible_folders(inner)
        if _has_images(inner) or not any(map(holds_images, inside.values())):
            break
        if _split_name(inner) and not any(map(_split_name, inside.values())):
            break
        notes.append(f"the classes are in the folder {inner.name!r} inside")
        path, folders = inner, inside
    if not folders:
        loose = " but images without them" if _has_images(path) else ""
        raise ValueError(
            "A folder is expected with one folder for each class, such as photos/cat and "
            "photos/dog, or with `train` and `validation` that hold them. "
            f"Received: folder:{path}, which holds no folders{loose}"
        )
    found = {name: folder for name, folder in folders.items() if holds_images(folder)}
    splits = {name: folder for name, folder in found.items() if _split_name(folder)}
    others = sorted(set(found) - set(splits))
    is_split = bool(splits) and all(map(_is_split_folder, splits.values()))
    if is_split and others and len({*map(_split_name, splits.values())}) < 2:
        is_split = False  # one class of several has a split's name
    if not is_split:
        return Layout(path, {None: folders}, (*notes, *_loose_notes(path)))
    names = [_split_name(folder) for folder in splits.values()]
    if len(set(names)) < len(names):
        raise ValueError(
            "One folder for each split is expected. "
            f"Received: folder:{path} with {', '.join(sorted(splits))}"
        )
    if others:
        notes.append(f"folders beside the splits are left out: {abbreviated(others)}")
    if names == [TRAIN]:
        (folder,) = splits.values()
        notes.append(f"there is no split beside {folder.name!r}: a part of it is held back")
        return Layout(folder, {None: visible_folders(folder)}, tuple(notes))
    classes = {_key(folder): visible_folders(folder) for folder in splits.values()}
    return Layout(path, classes, tuple(notes))


def _key(folder):
    """What a split is called: `train` whatever its folder's name, `val` and the like as it is."""
    return TRAIN if _split_name(folder) == TRAIN else folder.name.lower()


def split_name(folder: str) -> str | None:
    """ "train", "validation" or "test" for a folder that is called so or alike; None for others."""
    return _SPLIT_OF.get(folder.lower())


def _split_name(folder):
    return split_name(folder.name)


def visible_folders(path: Path) -> dict[str, Path]:
    """Name -> path of a folder's folders, sorted by name; not of hidden ones."""
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return {name: path / name for name in names if not is_ignored(name)}


def class_files(folder: Path) -> Iterator[os.DirEntry]:
    """The visible files of a class's folder and of the folders in it, as they come."""
    pending = [os.fspath(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if is_ignored(entry.name):
                    continue
                if entry.is_dir():
                    pending.append(entry.path)
                elif entry.is_file():  # a link to nowhere is none
                    yield entry


def holds_images(folder: Path) -> bool:
    """Whether there is a file in a folder or in those in it."""
    return next(class_files(folder), None) is not None


def _is_split_folder(folder):
    """Whether images are in folders of it, and none in itself."""
    return not _has_images(folder) and any(map(holds_images, visible_folders(folder).values()))


def _has_images(folder):
    with os.scandir(folder) as entries:
        return any(
            not is_ignored(entry.name) and Path(entry.name).suffix.lower() in _IMAGE_SUFFIXES
            for entry in entries
            if entry.is_file()
        )


def _loose_notes(path):
    with os.scandir(path) as entries:
        loose = sorted(
            entry.name
            for entry in entries
            if entry.is_file()
            and not is_ignored(entry.name)
            and Path(entry.name).suffix.lower() in _IMAGE_SUFFIXES
        )
    if not loose:
        return ()
    return (f"{len(loose)} images beside the class folders are left out: {abbreviated(loose)}",)
