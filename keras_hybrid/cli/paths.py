"""Paths that a user typed: there, or a sentence with the nearest one that is."""

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
