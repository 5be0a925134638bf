"""How the tests are shared out to workers, where there are several."""

import functools
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

# What takes longest, and so starts first: at the end, short tests fill both workers.
LONGEST = ("test_notebooks.py", "test_quickstart.py", "test_backends.py")
# Files that share something made once for a session.
TOGETHER = {"test_backends.py": "backends", "test_attention.py": "backends"}


class SharedFixturesScheduling(LoadScopeScheduling):
    """Each test is given to the worker that is free, files with a fixture of their own as a whole.

    So what a file makes once is made on one worker. The order is that of the collection.
    """

    def _split_scope(self, nodeid):
        path = nodeid.split("::", 1)[0]
        group = TOGETHER.get(path.rsplit("/", 1)[-1])
        return group or (path if shares_a_fixture(path) else nodeid)


@functools.cache
def shares_a_fixture(path: str) -> bool:
    """Whether a file of tests has a fixture that is made once for all of them."""
    return 'scope="module"' in Path(path).read_text(encoding="utf-8")


def rank(item) -> int:
    """Where a test stands in the order: the longest files, what is marked large, all else.

    Files whose tests share something stay whole, in the order in which they are written.
    """
    if item.path.name in LONGEST:
        return LONGEST.index(item.path.name)
    large = item.get_closest_marker("large") or shares_a_fixture(str(item.path))
    return len(LONGEST) + (not large)
