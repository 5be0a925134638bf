"""Records of TFRecord files by their place, which TensorFlow itself reads in order only."""

import os
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_hybrid.files import is_bucket, place

# A record: its length, a checksum of that, the content, a checksum of that.
_LENGTH = struct.Struct("<Q")
_BEFORE, _AFTER = 12, 4


class Records:
    """Some records of some TFRecord files, as one sequence.

    The files are indexed once, by the records' lengths: that reads 12 bytes of each.

    Args:
        parts: of the sequence in order: a file's path, which may be in a bucket, how many of its
            records to leave out at the beginning, and how many to take; -1 for the rest.

    Raises:
        ValueError: for a file that is cut off.
    """

    def __init__(self, parts: Sequence[tuple[str, int, int]]):
        self.files = [os.fspath(file) for file, _, _ in parts]
        with ThreadPoolExecutor(16) as pool:
            indices = list(pool.map(lambda part: _index(*part), parts))
        self.spans = np.concatenate([np.zeros((0, 2), "int64"), *indices])
        self.file_of = np.repeat(np.arange(len(parts)), list(map(len, indices)))
        self._open = {}
        self._lock = threading.Lock()

    def __len__(self):
        return len(self.spans)

    def read(self, index: int) -> bytes:
        """The content of a record."""
        start, length = self.spans[index].tolist()
        file = self.files[self.file_of[index]]
        if is_bucket(file) or not hasattr(os, "pread"):
            with place(file).open("rb") as opened:
                opened.seek(start)
                return opened.read(length)
        return os.pread(self._descriptor(file), length, start)

    def _descriptor(self, file):
        with self._lock:
            if file not in self._open:
                self._open[file] = os.open(file, os.O_RDONLY)
            return self._open[file]

    def __del__(self, close=os.close):  # at the interpreter's end, `os` is gone before this
        for descriptor in self.__dict__.get("_open", {}).values():
            close(descriptor)


def _index(file, skip, take):
    """Start and length of the records of a file: (n, 2)."""
    file = os.fspath(file)
    size = place(file).stat().length if is_bucket(file) else os.stat(file).st_size
    spans, position = [], 0
    with place(file).open("rb") if is_bucket(file) else open(file, "rb", 0) as opened:
        while position < size and (take < 0 or len(spans) < skip + take):
            opened.seek(position)
            header = opened.read(_LENGTH.size)
            length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else size
            if position + _BEFORE + length + _AFTER > size:
                raise ValueError(
                    "A TFRecord file that is whole is expected; prepare the data set again. "
                    f"Received: {file}, cut off after {size} bytes"
                )
            spans.append((position + _BEFORE, length))
            position += _BEFORE + length + _AFTER
    return np.array(spans[skip:], "int64").reshape(-1, 2)
