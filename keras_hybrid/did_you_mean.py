"""The nearest known name to one that is not known, for messages."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """' Did you mean `X`?' where a known name is near, else the empty string."""
    near = difflib.get_close_matches(str(name), [str(other) for other in known], n=1)
    return f" Did you mean `{near[0]}`?" if near else ""
