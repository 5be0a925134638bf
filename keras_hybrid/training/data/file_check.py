"""Which files are images that can be read, and which are copies; each file is read for it once."""

import functools
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_hybrid.files import whole_file
from keras_hybrid.image_files import decode_tensor

_FIELDS = [
    ("name", "u8"),  # a digest of it
    ("size", "i8"),
    ("time", "i8"),
    ("good", "?"),
    ("content", "u8"),  # a digest of it
]


def check_files(
    root: bytes, names: list[bytes], status: np.ndarray, record: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes files that were not decoded before, in threads.

    Args:
        root: a folder.
        names: paths of files in it.
        status: size and time of each, (n, 2).
        record: file where verdicts are kept; a file counts as new when its size or time changed.

    Returns: whether each can be decoded, and a digest of its content: (n,) both.
    """
    rows = np.zeros(len(names), _FIELDS)
    rows["name"] = np.fromiter(map(_digest, names), "u8", len(names))
    rows["size"], rows["time"] = status.reshape(-1, 2).T
    is_new = np.ones(len(names), bool)
    known = _known(record)
    if len(known) and len(names):
        places = np.searchsorted(known["name"], rows["name"]).clip(max=len(known) - 1)
        there = known[places]
        same = np.ones(len(names), bool)
        for field in ("name", "size", "time"):
            same &= there[field] == rows[field]
        rows["good"][same], rows["content"][same] = there["good"][same], there["content"][same]
        is_new = ~same
    new = np.flatnonzero(is_new)
    _shape_reader()  # before threads ask for it
    pool = ThreadPoolExecutor()
    done = 0
    try:
        verdicts = tqdm(
            pool.map(lambda place: check_file(root + b"/" + names[place]), new),
            total=len(new),
            desc=f"checking the images of {os.fsdecode(root)}",
            unit=" images",
            disable=None if len(new) > 1000 else True,
        )
        for place, (good, content) in zip(new, verdicts, strict=True):
            rows["good"][place], rows["content"][place] = good, content
            done += 1
    finally:
        pool.shutdown(cancel_futures=True)
        if len(new):  # an interrupted check goes on where it ended
            is_new[new[:done]] = False
            with whole_file(record) as temporary, open(temporary, "wb") as file:
                np.save(file, np.sort(rows[~is_new], order="name"))
    return rows["good"], rows["content"]


def _known(record):
    try:
        known = np.load(record)
    except (OSError, ValueError):
        return np.zeros(0, _FIELDS)
    return known if known.dtype == np.dtype(_FIELDS) else np.zeros(0, _FIELDS)


def _digest(content):
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def check_file(path: bytes) -> tuple[bool, int]:
    """Whether a file can be decoded, and a digest of its content."""
    try:
        content = Path(os.fsdecode(path)).read_bytes()
    except OSError:
        return False, 0
    try:
        # An eighth of the size is quicker, and reads a JPEG whole.
        _shape_reader()(tf.constant(content))
    except tf.errors.OpError:
        return False, _digest(content)
    return True, _digest(content)


@functools.cache
def _shape_reader():
    """A graph, made once, that decodes a file and returns its shape."""
    spec = tf.TensorSpec((), tf.string)
    graph = tf.function(lambda encoded: tf.shape(decode_tensor(encoded, ratio=8)), autograph=False)
    return graph.get_concrete_function(spec)
