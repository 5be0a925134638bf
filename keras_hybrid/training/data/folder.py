"""Images in class folders: checked once, split where they are not, always in the same order."""

import hashlib
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from keras_hybrid.files import write_text

SPLITS = ("train", "validation", "val", "test")
VALIDATION_SHARE = 0.2
ALL = "all"
LISTED = 5  # so many names a warning shows before it abbreviates


def read_folder(path, cache) -> tuple[tuple[str, ...], dict[str, list[tuple[str, int]]]]:
    """The images of a folder of class folders, or of such folders in train, validation, test.

    Without these, a fifth of each class, told by a hash of the files' names, becomes
    "validation", the rest "train", and "all" is both.

    Files that TensorFlow cannot decode are left out: a warning counts and names them. Hidden files
    are ignored. Each file is decoded for that once; the verdict is kept until size or time of the
    file change.

    Args:
        path: of the folder.
        cache: folder where verdicts are kept.

    Returns: the classes' names in alphabetical order, and the splits, lists of (file, label)
        ordered by class and name.

    Raises:
        ValueError: for a missing path, no classes, an empty class, or splits of different classes.
    """
    path = Path(path).expanduser().resolve()
    if not path.is_dir():
        raise ValueError(f"There is no folder of that name. Received: folder:{path}")
    folders = _subfolders(path)
    if not folders:
        raise ValueError(
            "A folder is expected with one folder for each class, or with `train` and "
            f"`validation` that hold them. Received: folder:{path}, which holds no folders"
        )
    is_split = set(folders) <= set(SPLITS)
    roots = folders if is_split else {ALL: path}
    files = {
        (split, name): _files(folder)
        for split, root in roots.items()
        for name, folder in _subfolders(root).items()
    }
    good = _decodable([file for found in files.values() for file in found], path, cache)
    classes = {split: sorted(name for at, name in files if at == split) for split in roots}
    names = classes.get("train") or next(iter(classes.values()))
    for split, found in classes.items():
        if found != names or not names:
            different = sorted(set(found) ^ set(names))
            raise ValueError(
                "All splits must hold the same class folders, one or more. "
                f"Received: folder:{path} with {different or 'none'} in only some of them"
                f" ({split})"
            )
    splits = {}
    for split in roots:
        by_class = {
            name: [file for file in files[split, name] if str(file) in good] for name in names
        }
        if empty := [name for name, found in by_class.items() if not found]:
            raise ValueError(
                "Every class needs an image that can be read. "
                f"Received: folder:{roots[split]} with none in {_abbreviated(empty)}"
            )
        splits[split] = [
            (str(file), label) for label, name in enumerate(names) for file in by_class[name]
        ]
    if not is_split:
        splits = _split(splits[ALL], path)
    return tuple(names), splits


def folder_examples(files: list[tuple[str, int]]) -> tf.data.Dataset:
    """A dataset of {"image": encoded file, "label": int64} from files and labels, in order."""
    paths = [file for file, _ in files]
    labels = tf.constant([label for _, label in files], tf.int64)
    return tf.data.Dataset.from_tensor_slices((paths, labels)).map(
        lambda file, label: {"image": tf.io.read_file(file), "label": label},
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _subfolders(path):
    """Name -> path of a folder's visible folders, sorted by name."""
    folders = (item for item in sorted(path.iterdir()) if item.is_dir())
    return {folder.name: folder for folder in folders if not folder.name.startswith(".")}


def _files(folder):
    files = sorted(item for item in folder.iterdir() if item.is_file())
    return [file for file in files if not file.name.startswith(".")]


def _split(files, root):
    """A share of each class for validation, of one image at least where the class has two."""
    taken = set()
    for label in {label for _, label in files}:
        order = sorted(
            (hashlib.sha256(Path(file).relative_to(root).as_posix().encode()).digest(), file)
            for file, other in files
            if other == label
        )
        if len(order) < 2:
            raise ValueError(
                "A class needs two images to be split into train and validation. Received: "
                f"folder:{Path(order[0][1]).parent} with one"
            )
        taken.update(file for _, file in order[: max(1, round(VALIDATION_SHARE * len(order)))])
    return {
        "train": [item for item in files if item[0] not in taken],
        "validation": [item for item in files if item[0] in taken],
        ALL: files,
    }


def _decodable(files, root, cache):
    """Those of the files that can be decoded, as a set of paths; warns about the others."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    record = Path(cache) / "keras_hybrid_folders" / f"{name}.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}

    def mark(file):
        status = file.stat()
        return [status.st_size, status.st_mtime_ns]

    marks = {str(file): mark(file) for file in files}
    new = [file for file, seen in marks.items() if known.get(file, [None])[0] != seen]
    pool = ThreadPoolExecutor()
    try:
        verdicts = tqdm(
            pool.map(_is_image, new),
            total=len(new),
            desc=f"checking the images of {root}",
            unit=" images",
            disable=None if len(new) > 1000 else True,
        )
        for file, verdict in zip(new, verdicts, strict=True):
            known[file] = [marks[file], verdict]
    finally:
        pool.shutdown(cancel_futures=True)
        if new:
            kept = {file: known[file] for file in marks if file in known}
            write_text(record, json.dumps(kept))
    bad = [file for file in marks if not known[file][1]]
    if bad:
        names = [Path(file).relative_to(root).as_posix() for file in bad]
        warnings.warn(
            f"{len(bad)} of {len(marks)} files in {root} are no JPEG, PNG, GIF or BMP images that "
            f"can be read, and are left out: {_abbreviated(names)}. {record} lists all.",
            stacklevel=4,
        )
    return {file for file in marks if known[file][1]}


def _is_image(file):
    try:
        encoded = tf.io.read_file(file)
        if tf.io.is_jpeg(encoded):  # an eighth of the size is quicker, and reads the file whole
            tf.io.decode_jpeg(encoded, channels=3, ratio=8)
        else:
            tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except tf.errors.OpError:
        return False
    return True


def _abbreviated(names):
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
