"""Standard error: as it is now, and without the commentary of libraries written in C++."""

import contextlib
import io
import os
import re
import sys
import tempfile
import threading
from typing import TextIO, cast

# TensorFlow's lines of information (I0000 ...), the announcement of where they go, and LiteRT's.
_COMMENTARY = re.compile(
    rb"I0000 00:00|INFO: Created TensorFlow|"
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
)

# The descriptor is the process's: of two threads that turn it away, the one that is done first
# would give it back while the other's file still takes what is written.
_ONE_AT_A_TIME = threading.RLock()


class _StandardError(io.TextIOBase):
    """What `sys.stderr` is when something is written, and not when a function was defined.

    As a default of an argument `sys.stderr` itself would be the one of the import: closed since
    where tests or `redirect_stderr` took its place meanwhile. Nowhere where a process has none.
    """

    def write(self, text):
        return sys.stderr.write(text) if sys.stderr is not None else len(text)

    def flush(self):
        if sys.stderr is not None:
            sys.stderr.flush()

    def isatty(self):
        return sys.stderr is not None and sys.stderr.isatty()

    def __repr__(self):
        return "sys.stderr"


STANDARD_ERROR = cast(TextIO, _StandardError())


@contextlib.contextmanager
def without_commentary():
    """Of what is written to standard error meanwhile, all but commentary appears afterwards.

    TensorFlow 2.21 writes before it reads `TF_CPP_MIN_LOG_LEVEL`, and LiteRT reads no level at all;
    both from C++, so that only the descriptor itself can be turned away. Everything appears where
    the block raises.
    """
    with _ONE_AT_A_TIME:
        yield from _turned_away()


def _turned_away():
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    whole = True
    with tempfile.TemporaryFile() as meanwhile:
        os.dup2(meanwhile.fileno(), 2)
        try:
            yield
            whole = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            meanwhile.seek(0)
            for line in meanwhile:
                if whole or not _COMMENTARY.match(line):
                    os.write(2, line)
