"""How much memory this process has taken."""

import re
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory() -> int | None:
    """The most bytes that this process has had so far; None where nobody counts them.

    Where there is no `/proc`, it is what `getrusage` says. On Linux that starts with the peak of
    the process that started this one.
    """
    if STATUS.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes everywhere else
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
