"""Paths that a user typed: there, or a sentence with the nearest one that is."""

import json
import zipfile
from pathlib import Path

from keras_hybrid.cli.command import UsageError, suggestion
from keras_hybrid.files import MODEL_FILE, RUN_FILE


def existing(text: str, what: str) -> Path:
    """The path, where it is there.

    Args:
        text: as typed.
        what: is expected, such as "a folder of photos".

    Raises:
        UsageError: with the nearest name beside it.
    """
    path = Path(text).expanduser()
    if path.exists():
        return path
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        path, parent = parent, parent.parent
    near = suggestion(path.name, [item.name for item in _listed(parent)])
    if parent != Path("."):
        near = near.replace("`", f"`{parent}/", 1)
    raise UsageError(f"{what} is expected; there is no {text!r}{near}")


def existing_file(text: str, what: str) -> Path:
    """The path of a file that is there.

    Raises:
        UsageError: for a folder, too.
    """
    path = existing(text, what)
    if path.is_dir():
        raise UsageError(f"{what} is expected. Received: {text}, which is a folder")
    return path


def model_file(path: Path) -> Path:
    """A .keras file, whole as far as can be seen without reading it.

    Raises:
        UsageError: for a file of another kind.
    """
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise UsageError(
            f"{path} is no .keras file, or was not copied whole: copy or save it again"
        )
    return path


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run, finished or not."""
    return (path / RUN_FILE).is_file()


def finished_run(text: str) -> Path:
    """The folder of a finished run.

    Raises:
        UsageError: it says what the path is instead, and which runs are near.
    """
    path = existing(text, "the folder of a finished run")
    if (path / MODEL_FILE).is_file() and is_run(path):
        model_file(path / MODEL_FILE)
        try:
            json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(
                f"{path / RUN_FILE} is damaged ({error}): copy the run again, or train anew"
            ) from error
        return path
    if is_run(path):
        raise UsageError(
            f"the run in {text} is not finished: the command that began it goes on with it"
        )
    runs = [item for item in _listed(path) if is_run(item)] if path.is_dir() else []
    if path.is_file() and is_run(path.parent):
        runs = [path.parent]
    hint = f" (did you mean `{runs[0]}`?)" if runs else "; `keras-hybrid train` makes one"
    raise UsageError(f"the folder of a finished run is expected. Received: {text}{hint}")


def run_folder(text: str, photos: Path, flag: str = "--out") -> Path:
    """A folder of a run to write.

    Args:
        text: as typed.
        photos: that the run is trained on, which must not be mixed with its files.
        flag: that it came with.

    Raises:
        UsageError: for none, a file, or the photos' own folder.
    """
    path = Path(text).expanduser()
    if not text.strip():
        raise UsageError(f"{flag} names the folder of the run, such as runs/p. Received: {flag}=")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{flag} names a folder. Received: {flag}={text}, which is a file")
    if photos.resolve() in (path.resolve(), *path.resolve().parents):
        raise UsageError(
            f"{flag} must lie outside of the photos, such as runs/{photos.resolve().name}. "
            f"Received: {flag}={text}"
        )
    return path


def output(text: str, suffix: str, flag: str = "--out") -> Path:
    """A file to write, with its suffix.

    Raises:
        UsageError: for another suffix.
    """
    path = Path(text).expanduser()
    if path.suffix != suffix:
        raise UsageError(f"{flag} names a {suffix} file. Received: {flag}={text}")
    return path


def _listed(folder):
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
