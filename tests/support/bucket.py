"""A bucket in memory, at s3://bucket, for what writes and reads through epath."""

from pathlib import PurePosixPath

import fsspec
from etils.epath import gpath
from fsspec.implementations.memory import MemoryFileSystem

ADDRESS = "s3://bucket/runs/a"


class MemoryBucket(MemoryFileSystem):
    """Objects by name; writing fails while `denied` says why.

    Attributes:
        writes: names of the objects written, in order.
    """

    protocol = ("s3",)
    store = {}
    pseudo_dirs = [""]
    cachable = False
    denied = None
    writes = []

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("s3:").strip("/")

    def _open(self, path, mode="rb", **options):
        if mode != "rb":
            if type(self).denied:
                raise PermissionError(type(self).denied)
            type(self).writes.append(PurePosixPath(path).name)
        return super()._open(path, mode, **options)


def in_memory(monkeypatch):
    """Puts an empty bucket in the place of S3; returns its class."""
    fsspec.register_implementation("s3", MemoryBucket, clobber=True)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)  # as EPATH_USE_TF=false
    gpath.backend_lib.fsspec_backend._get_filesystem.cache_clear()
    MemoryBucket.store, MemoryBucket.denied, MemoryBucket.writes = {}, None, []
    return MemoryBucket
