"""Files with labels, a million of them in a hundred megabytes, read by their place."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf


class FileList(Sequence):
    """Files of one folder and their labels.

    Names lie in one run of bytes: as Python's strings, those of ImageNet would take a gigabyte.

    Args:
        root: the folder, in the file system's encoding.
        names: paths of the files in it, one after the other.
        ends: where in `names` each path ends, (n,).
        labels: a label for each, (n,).
    """

    def __init__(self, root: bytes, names: bytes, ends: np.ndarray, labels: np.ndarray):
        self.root = root
        self.names = names
        self.ends = np.asarray(ends, "int64")
        self.labels = np.asarray(labels, "int64")

    @classmethod
    def of(cls, root: bytes, names: list[bytes], labels) -> "FileList":
        """A list of names and labels."""
        lengths = np.fromiter(map(len, names), "int64", len(names))
        return cls(root, b"".join(names), np.cumsum(lengths), np.asarray(labels, "int64"))

    def __len__(self):
        return len(self.ends)

    def name(self, place: int) -> bytes:
        """The path of a file in the folder."""
        start = self.ends[place - 1] if place else 0
        return self.names[start : self.ends[place]]

    def __getitem__(self, place):
        """(path, label) of a file; of a slice, a list of them."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        path = self.root + b"/" + self.name(place)
        return path.decode("utf-8", "surrogateescape"), int(self.labels[place])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return (self[place] for place in range(len(self)))

    def take(self, places) -> "FileList":
        """The files at some places, in the order of these."""
        places = np.asarray(places, "int64")
        names = [self.name(int(place)) for place in places]
        return FileList.of(self.root, names, self.labels[places])

    def reader(self):
        """A function for `tf.data`: place -> {"image": the file's content, "label": int64}."""
        names, root = tf.constant(self.names), tf.constant(self.root + b"/")
        ends, labels = tf.constant(self.ends), tf.constant(self.labels)
        starts = tf.concat([tf.zeros([min(1, len(self))], tf.int64), ends[:-1]], 0)

        def read(place):
            start = starts[place]
            name = tf.strings.substr(names, start, ends[place] - start)
            return {"image": tf.io.read_file(root + name), "label": labels[place]}

        return read
