"""Files that are either whole or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# What a run's folder holds.
RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
BEST_FILE = "best.keras"
STATE_FILE = "state.npz"


@contextlib.contextmanager
def whole_file(path) -> Iterator[Path]:
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


def write_text(path, text: str):
    """Writes a text file whole."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
