"""What a process is said to have taken."""

import subprocess
import sys

import pytest

from keras_hybrid.workflows import memory

PROGRAM = """
from keras_hybrid.workflows.memory import peak_memory
print(peak_memory(), end=" ")
taken = b"1" * 100_000_000
del taken
print(peak_memory())
"""


@pytest.mark.skipif(not memory.STATUS.exists(), reason="Linux alone tells it")
def test_a_process_is_not_charged_with_what_its_parent_took():
    taken = b"1" * 600_000_000
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    before, after = map(int, done.stdout.split())
    assert memory.peak_memory() > len(taken)
    assert 5_000_000 < before < 300_000_000
    assert after > 100_000_000 + before - 10_000_000  # the peak, not what is left


def test_where_nothing_tells_the_peak_getrusage_does(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    by_usage = memory.peak_memory()
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t 12 kB\n")
    assert memory.peak_memory() == by_usage > 5_000_000
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    1234 kB\n")
    assert memory.peak_memory() == 1234 * 1024
