"""Files that are either whole or not there, what is in them, and one writer at a time."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

# What a run's folder holds.
RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
BEST_FILE = "best.keras"
STATE_FILE = "state.npz"
_BLOCK = 1 << 20  # bytes read at once


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its place when the block ends well.

    The temporary name keeps the suffix, which some writers look at. Whatever kills the process,
    `path` holds the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes)
    temporary = path.with_name(f".{path.name.removesuffix(suffix)}.partial{suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file whole."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def only_writer(folder: str | os.PathLike) -> Iterator[None]:
    """Waits until no other process is in such a block for the folder, which must exist."""
    from filelock import FileLock

    with FileLock(Path(folder) / ".lock"):
        yield
