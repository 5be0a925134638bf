"""Images in class folders: checked once, split where they are not, always in the same order."""

import array
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.files import is_bucket, local_path, write_text
from keras_hybrid.image_files import HEIF_HINT, HEIF_SUFFIXES, abbreviated
from keras_hybrid.training.data.file_check import check_files
from keras_hybrid.training.data.file_list import FileList
from keras_hybrid.training.data.layout import (
    TRAIN,
    VALIDATION,
    class_files,
    find_layout,
    holds_images,
    split_name,
)

VALIDATION_SHARE = 0.2
ALL = "all"


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder of class folders.

    Attributes:
        class_names: in the order of their labels.
        splits: files with labels, ordered by class and name.
        notes: what was left out or looks wrong, a sentence each.
        left_out: paths in the folder of the files left out.
        fingerprint: of names, labels and contents, wherever the folder lies.
    """

    class_names: tuple[str, ...]
    splits: dict[str, FileList]
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    fingerprint: str | None = None

    def __iter__(self):
        """As the pair (class names, splits)."""
        return iter((self.class_names, self.splits))


def read_folder(path, cache, in_splits: bool = True) -> ImageFolder:
    """The images of a folder of class folders, or of such folders in train, validation, test.

    Without these, a fifth of each class, told by a hash of the files' names, becomes
    "validation", the rest "train", and "all" is both. Copies of one file, if in several classes,
    are on one side; of copies in one class, the first is taken, unless the class has no other
    image. Folders inside of a class's folder belong to the class.

    Files that cannot be decoded are left out. Hidden files and folders are passed over. A warning
    counts and names what is left out. Each file is decoded for that once; the verdict is kept
    until size or time of the file change.

    Args:
        path: of the folder.
        cache: folder where verdicts are kept.
        in_splits: whether a folder of classes is split at all; False for what is only measured,
            where one image of a class will do.

    Returns: the classes' names in the order of their code points, and the splits.

    Raises:
        ValueError: for a missing path, less than one class, or a class that training lacks.
    """
    if is_bucket(path):
        raise ValueError(
            "Image files are read one by one, for which a bucket is too slow: mount it (gcsfuse, "
            "s3fs), or prepare a TFDS set in it and give its name with data_dir=gs://... "
            f"Received: {path!r}"
        )
    path = Path(path).expanduser().resolve()
    if not path.is_dir():
        raise ValueError(f"There is no folder of that name. Received: folder:{path}")
    layout = find_layout(path)
    root = layout.root
    scans = {split: _scan(root, classes) for split, classes in layout.splits.items()}
    names, notes = _class_names(root, layout, scans)
    notes = [*layout.notes, *notes]

    record = local_path(cache) / "keras_hybrid_folders"
    record /= f"{hashlib.sha256(str(root).encode('utf-8', 'replace')).hexdigest()[:16]}.npy"
    every = [name for scan in scans.values() for name in scan.names]
    status = np.concatenate([scan.status for scan in scans.values()])
    good, contents = check_files(os.fsencode(root), every, status, record)
    bad = [os.fsdecode(every[place]) for place in np.flatnonzero(~good)]
    if bad:
        hint = ""
        if any(Path(name).suffix.lower() in HEIF_SUFFIXES for name in bad):
            hint = f". Of HEIC photos: {HEIF_HINT}"
        notes.append(
            f"{len(bad)} of {len(every)} files in {root} are no images that can be read, and are "
            f"left out: {abbreviated(bad)}{hint}"
        )

    splits, digests, copies, start = {}, {}, [], 0
    for split, scan in scans.items():
        part = slice(start, start + len(scan.names))
        start = part.stop
        kept = good[part].copy()
        if split is None:  # an author's own splits stay as they are
            again = _copies(scan, contents[part], kept)
            kept[again] = False
            copies += [os.fsdecode(scan.names[place]) for place in again]
        order = [place for name in names for place in scan.places(name) if kept[place]]
        labels = np.repeat(np.arange(len(names)), [kept[scan.places(name)].sum() for name in names])
        if split is None or split_name(split) == TRAIN:
            _check_classes(names, np.bincount(labels, minlength=len(names)), root / (split or ""))
        files = [scan.names[place] for place in order]
        splits[split or ALL] = FileList.of(os.fsencode(root), files, labels)
        digests[split or ALL] = contents[part][order]
    if copies:
        notes.append(
            f"{len(copies)} files are copies of another one of their class, and are left out: "
            f"{abbreviated(copies)}"
        )
    notes += _shared(splits, digests)
    fingerprint = _fingerprint(splits, digests)
    if None in layout.splits and in_splits:
        splits = _split(splits[ALL], digests[ALL], root)
    if left_out := [*bad, *copies]:
        listing = record.with_suffix(".left_out.txt")
        write_text(listing, "".join(f"{_printable(name)}\n" for name in left_out))
        notes.append(f"{listing} lists all that is left out")
    if notes:
        warnings.warn("; ".join(map(_printable, notes)) + ".", stacklevel=3)
    notes = tuple(map(_printable, notes))
    return ImageFolder(tuple(names), splits, notes, tuple(left_out), fingerprint)


def _fingerprint(splits, digests):
    """Of the names in the folder, labels and contents of all images."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        files = splits[split]
        parts = (files.names, files.ends.tobytes(), files.labels.tobytes())
        for part in (split.encode(), *parts, digests[split].tobytes()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _printable(text):
    """The text with what is no valid character spelled out."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class _Scan:
    """The files of a split, class by class: names in the root, (size, time) of each."""

    names: list[bytes]
    status: np.ndarray
    bounds: dict[str, tuple[int, int]]

    def places(self, name):
        """Where the files of a class are."""
        return np.arange(*self.bounds.get(name, (0, 0)))


def _scan(root, classes):
    names, status, bounds = [], array.array("q"), {}
    for name, folder in classes.items():
        start = len(names)
        for file, size, time in sorted(_described(root, folder)):
            names.append(file)
            status.extend((size, time))
        bounds[name] = (start, len(names))
    return _Scan(names, np.array(status, "int64").reshape(-1, 2), bounds)


def _described(root, folder):
    for entry in class_files(folder):
        found = entry.stat()
        yield (
            os.path.relpath(os.fsencode(entry.path), os.fsencode(root)),
            found.st_size,
            (found.st_mtime_ns),
        )


def _class_names(root, layout, scans):
    """Names of the classes that training has, and notes about folders that are none."""
    of_training = next(
        (split for split in scans if split and split_name(split) == TRAIN), next(iter(scans))
    )
    folders = layout.splits[of_training]
    names = [name for name, folder in folders.items() if holds_images(folder)]
    notes = []
    if empty := sorted(set(folders) - set(names)):
        notes.append(f"folders without files are no classes: {abbreviated(empty)}")
    if not names:
        raise ValueError(f"No class folder holds a file. Received: folder:{root}")
    for split, classes in layout.splits.items():
        filled = {name for name, folder in classes.items() if holds_images(folder)}
        if more := sorted(filled - set(names)):
            raise ValueError(
                "All splits must hold the same class folders: what training lacks cannot be "
                f"learned. Received: folder:{root} with {abbreviated(more)} in {split} only"
            )
        if missing := sorted(set(names) - filled):
            notes.append(f"the split {split} has no images of {abbreviated(missing)}")
    return names, notes


def _check_classes(names, counts, root):
    if empty := [name for name, count in zip(names, counts, strict=True) if not count]:
        raise ValueError(
            "Every class needs an image that can be read. "
            f"Received: folder:{root} with none in {abbreviated(empty)}"
        )


def _copies(scan, contents, good):
    """Places of files that repeat an earlier one of their class, which keeps two images or more."""
    again = []
    for name in scan.bounds:
        places = scan.places(name)
        places = places[good[places]]
        _, first = np.unique(contents[places], return_index=True)
        if len(first) >= 2:
            again += np.delete(places, first).tolist()
    return again


def _shared(splits, digests):
    """Notes about one picture in two classes, or in two splits."""
    notes = []
    for split, contents in digests.items():
        pairs = np.unique(np.stack([contents, splits[split].labels.astype("u8")]), axis=1)
        found, counts = np.unique(pairs[0], return_counts=True)
        doubtful = np.isin(contents, found[counts > 1])
        if doubtful.any():
            notes.append(
                f"{doubtful.sum()} files of {split} are in several classes: "
                f"{abbreviated(_names(splits[split], doubtful))}"
            )
    for split, contents in digests.items():
        if split_name(split) == TRAIN or split == ALL:
            continue
        for training in (name for name in digests if split_name(name) == TRAIN):
            leaked = np.isin(contents, digests[training])
            if leaked.any():
                notes.append(
                    f"{leaked.sum()} files of {split} are in {training}, too, which flatters the "
                    f"accuracy: {abbreviated(_names(splits[split], leaked))}"
                )
    return notes


def _names(files, chosen):
    return [os.fsdecode(files.name(place)) for place in np.flatnonzero(chosen)]


def _split(files, contents, root):
    """A share of each class for validation, of one image at least where the class has two.

    Copies of one file are on one side, unless a class has nothing else.
    """
    taken = np.zeros(len(files), bool)
    on_a_side = {}  # content -> whether it is for validation
    for label in np.unique(files.labels):
        places = np.flatnonzero(files.labels == label)
        if len(places) < 2:
            raise ValueError(
                "A class needs two images to be split into train and validation. Received: "
                f"folder:{Path(files[places[0]][0]).parent} with one"
            )
        wanted = max(1, round(VALIDATION_SHARE * len(places)))
        places = sorted(places, key=lambda place: hashlib.sha256(files.name(place)).digest())
        groups = {}  # copies of one file, in the order of the first ones' names
        for place in places:
            groups.setdefault(contents[place], []).append(place)
        room = wanted - sum(len(same) for content, same in groups.items() if on_a_side.get(content))
        for content, same in groups.items():
            if content not in on_a_side:
                on_a_side[content] = len(same) <= room
                room -= len(same) * on_a_side[content]
            taken[same] = on_a_side[content]
        if not taken[places].any() or taken[places].all():  # nothing but copies
            taken[places] = False
            taken[places[:wanted]] = True
    order = np.arange(len(files))
    return {
        TRAIN: files.take(order[~taken]),
        VALIDATION: files.take(order[taken]),
        ALL: files,
    }
