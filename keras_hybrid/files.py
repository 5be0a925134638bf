"""Files that are either whole or not there, what is in them, and one writer at a time."""

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import cast

# What a run's folder holds.
RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
BEST_FILE = "best.keras"
STATE_FILE = "state.npz"
_BLOCK = 1 << 20  # bytes read at once


_BUCKET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters or more: no drive of Windows
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SCHEMES = ("gs://", "s3://", "az://", "hf://")  # that epath knows

LEASE_FILE = ".writer.json"
LEASE_SECONDS = 180  # without renewal, after which a writer into a bucket counts as gone
_SETTLE_SECONDS = 1  # in which writers that begin together see who was last

_DISK_ERRORS = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "ESTALE")
}


def is_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is the address of something in a bucket, such as gs://bucket/run."""
    return bool(_ADDRESS.match(os.fspath(path)))


def place(path: str | os.PathLike) -> Path:
    """A file or folder of this machine or of a bucket, as a path with pathlib's methods.

    Raises:
        ValueError: for an address that cannot be reached from here.
    """
    if not is_bucket(path):
        return local_path(path)
    if isinstance(path, PurePath):
        return cast(Path, path)  # one of these already
    try:
        from etils import epath

        if not os.fspath(path).startswith(_SCHEMES):
            raise ValueError(f"{', '.join(_SCHEMES)} are known")
        found = epath.Path(path)
        found.exists()
    except Exception as error:
        raise ValueError(
            "A bucket that can be reached from here is expected. TensorFlow itself reaches gs://; "
            "with the variable EPATH_USE_TF=false, `pip install gcsfs` (gs://), s3fs (s3://) or "
            f"adlfs (az://) do. Received: {os.fspath(path)!r}; {type(error).__name__}: {error}"
        ) from error
    return cast(Path, found)


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
    write it do not mix their files. In a bucket, where an object appears when it is whole, the
    temporary file is one of this machine.

    Raises:
        NotWrittenError: where the disk is full, or the folder or bucket cannot be written.
        ValueError: for the address of a bucket that cannot be reached.
    """
    if is_bucket(path):
        path = place(path)
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, path.name)
            yield temporary
            with _named(path):
                path.write_bytes(temporary.read_bytes())
        return
    path = local_path(path)
    suffix = "".join(path.suffixes)
    name = f".{path.name.removesuffix(suffix)}.{uuid.uuid4().hex[:12]}.partial{suffix}"
    temporary = path.with_name(name)
    with _named(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


class NotWrittenError(OSError):
    """A file could not be written; what was there before is whole."""


@contextlib.contextmanager
def _named(path):
    """Errors of disks and buckets name the file that was to be written."""
    try:
        yield
    except Exception as error:
        cause = _of_disk(error)
        if cause is None and not is_bucket(path):
            raise
        raise NotWrittenError(
            f"{os.fspath(path)} could not be written, and is as it was before: {cause or error}"
        ) from error


def _of_disk(error):
    """The error of a disk behind an error, which those of ZIP files and of HDF5 may hide."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return error
        error = error.__cause__ or error.__context__
    return None


class FolderInUseError(ValueError):
    """Another process, or another call in this one, writes into a folder."""


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Keeps other writers out of a folder, for the length of a block, also if this process dies.

    Temporary files that killed processes left in it are removed. A bucket knows no locks: there a
    file says who writes, and is renewed all the time; whoever left it behind counts as gone after
    three minutes, or at once on its own machine.

    Args:
        folder: one that is there.

    Raises:
        FolderInUseError: where another one writes.
    """
    folder = place(folder)
    if is_bucket(folder):
        with _lease(folder):
            yield
        return
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


@contextlib.contextmanager
def _lease(folder):
    """A file in a bucket that says who writes there, for the length of a block."""
    file, name = folder / LEASE_FILE, uuid.uuid4().hex

    def holder():
        try:
            return json.loads(file.read_text())
        except (FileNotFoundError, ValueError):
            return {"writer": name, "renewed": 0.0}

    def renew():
        mine = {"writer": name, "host": socket.gethostname(), "process": os.getpid()}
        file.write_text(json.dumps({**mine, "renewed": time.time()}))

    def keep_renewing():
        while not done.wait(LEASE_SECONDS / 4):
            with contextlib.suppress(Exception):  # the next may pass; a run must not end for it
                renew()

    with _named(file):
        found = holder()
        left = LEASE_SECONDS - (time.time() - found["renewed"])
        if found["writer"] == name or left <= 0 or _is_gone(found):
            renew()
            time.sleep(_SETTLE_SECONDS)
            found = holder()
            left = LEASE_SECONDS
    if found["writer"] != name:
        raise FolderInUseError(
            "One process writes into a folder at a time: wait for the other, or take another "
            f"folder. Received: {os.fspath(folder)!r}, in which process {found.get('process')} of "
            f"{found.get('host')} is writing, or was less than {LEASE_SECONDS - left:.0f} s ago"
        )
    done = threading.Event()
    thread = threading.Thread(target=keep_renewing, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(Exception):
            file.unlink()


def _is_gone(holder):
    """Whether a writer was a process of this machine that has ended."""
    if holder.get("host") != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(holder["process"], 0)
    except ProcessLookupError:
        return True
    except (PermissionError, TypeError):
        return False
    return False


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
