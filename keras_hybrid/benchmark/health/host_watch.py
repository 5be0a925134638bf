"""The same of this machine: clocks sampled while another process runs, pages dropped before."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from keras_hybrid.benchmark.health.watch import Sample, summarize_samples

_FOLDER = Path("/sys/devices/system/cpu")


@contextlib.contextmanager
def watch_host(interval: float, folder: Path = _FOLDER) -> Iterator[dict]:
    """Samples clocks in a thread; the dictionary holds a row's `during` at the end.

    Args:
        interval: seconds between two looks; 0 for none.
        folder: where the kernel shows its cores.
    """
    found: dict = {}
    files = {
        int(path.parent.name[3:]): path / "scaling_cur_freq"
        for path in folder.glob("cpu[0-9]*/cpufreq")
    }
    if not interval or not files:
        yield found
        return
    samples, ended = [], threading.Event()

    def look():
        while True:
            sample = Sample(time.monotonic())
            for core, file in files.items():
                with contextlib.suppress(OSError, ValueError):
                    sample.clock_khz[core] = int(file.read_text())
            samples.append(sample)
            if ended.wait(interval):
                return

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield found
    finally:
        ended.set()
        looker.join()
        found |= summarize_samples(samples)


def drop_pages(path) -> str:
    """Drops a file's pages from the page cache, and says what came of it."""
    if not hasattr(os, "posix_fadvise"):
        return "as left by earlier runs"
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        if not hasattr(os, "RWF_NOWAIT"):
            return "the model's pages dropped, unchecked"
        try:
            cached = os.preadv(handle, [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return "the model's pages dropped"
        except OSError:
            return "the model's pages dropped, unchecked"
        return "the model's pages are still cached" if cached else "the model's pages dropped"
    finally:
        os.close(handle)
