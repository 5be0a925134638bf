"""Files that are either whole or not there, what is in them, and one writer at a time."""

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

# What a run's folder holds.
RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
BEST_FILE = "best.keras"
STATE_FILE = "state.npz"
_BLOCK = 1 << 20  # bytes read at once


_BUCKET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters or more: no drive of Windows


def local_path(path: str | os.PathLike) -> Path:
    """The path, of a file or folder of this machine.

    Raises:
        ValueError: for the address of a bucket, which would become a local folder `gs:`.
    """
    if _BUCKET.match(os.fspath(path)):
        raise ValueError(
            "A path of this machine is expected: mount the bucket (gcsfuse, s3fs), or write to a "
            f"local folder and copy that. Received: {os.fspath(path)!r}"
        )
    return Path(path)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its place when the block ends well.

    The temporary name is this call's own, and keeps the suffix, which some writers look at.
    Whatever kills the process, `path` holds the old file or the new one; several processes that
    write it do not mix their files.

    Raises:
        ValueError: for the address of a bucket.
    """
    path = local_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes)
    name = f".{path.name.removesuffix(suffix)}.{uuid.uuid4().hex[:12]}.partial{suffix}"
    temporary = path.with_name(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class FolderInUseError(ValueError):
    """Another process, or another call in this one, writes into a folder."""


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Keeps other writers out of a folder, for the length of a block, also if this process dies.

    Temporary files that killed processes left in it are removed.

    Args:
        folder: one that is there.

    Raises:
        FolderInUseError: where another one writes.
    """
    folder = local_path(folder)
    with contextlib.ExitStack() as stack:
        try:
            _lock(folder, stack)
        except (BlockingIOError, TimeoutError) as error:
            raise FolderInUseError(
                "One process writes into a folder at a time: wait for the other, or take another "
                f"folder. Received: {os.fspath(folder)!r}, in which another one is writing"
            ) from error
        for left in folder.glob(".*.partial*"):
            left.unlink(missing_ok=True)
        yield


def _lock(folder, stack):
    """Locks the folder itself, or a file in it where systems cannot do that."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, descriptor)  # which unlocks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        import filelock

        stack.enter_context(filelock.FileLock(folder / ".lock", timeout=0))


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
    """Waits until no other process is in such a block for the folder, which must exist.

    `locked_folder` refuses at once.
    """
    from filelock import FileLock

    with FileLock(Path(folder) / ".lock"):
        yield
