"""Python's search for garbage, put off where many objects are made that stay."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def garbage_left() -> Iterator[None]:
    """While it lasts, Python does not look for garbage unasked; a context or a decorator.

    Building and tracing a large network makes a million objects that stay, and Python goes through
    all of them again and again: a sixth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def garbage_taken() -> Iterator[None]:
    """Takes garbage away first; while it lasts, what is left is not looked through again.

    For a call that itself looks for garbage, as TensorFlow's converter does.
    """
    gc.collect()
    own = not gc.get_freeze_count()  # else the user has put objects aside, to stay there
    if own:
        gc.freeze()
    try:
        yield
    finally:
        if own:
            gc.unfreeze()
