"""Latencies of several files in one process, in turns, so that a noisy machine treats all alike."""

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from keras_hybrid.litert import open_interpreter


@dataclass(frozen=True)
class Timing:
    """One file among others.

    Attributes:
        median_ms: median over the rounds of each round's median.
        ratio: median over the rounds of the ratio to the first file in the same round.
        low: the ratio's lower quartile.
        high: its upper quartile.
    """

    median_ms: float
    ratio: float
    low: float
    high: float


def time_interleaved(
    paths: list[str | os.PathLike],
    rounds: int = 15,
    seconds: float = 0.1,
    without_delegate: Collection[str | os.PathLike] = (),
) -> list[Timing]:
    """Times `.tflite` files on one thread, in turns.

    Measured is the CPU time of the thread, so that what else runs on the machine counts as little
    as it can; shared caches it still shares.

    Args:
        paths: of the files; the first is what the others are compared with.
        rounds: how many turns each gets, after one to warm up.
        seconds: least length of a turn.
        without_delegate: those of `paths` that run on LiteRT's own kernels, without XNNPACK.

    Returns: a `Timing` a file, in order.

    Raises:
        ValueError: for no files, a missing one, or an impossible number.
    """
    if not paths or any(not os.path.isfile(path) for path in paths):
        missing = [os.fspath(path) for path in paths if not os.path.isfile(path)]
        raise ValueError(f".tflite files are expected. Received: paths={paths}, missing={missing}")
    if rounds < 1 or seconds <= 0:
        raise ValueError(
            f"A round or more of some length is expected. Received: rounds={rounds}, "
            f"seconds={seconds}"
        )
    random = np.random.default_rng(0)
    interpreters = []
    for path in paths:
        interpreter = open_interpreter(path, xnnpack=path not in without_delegate)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            noise = random.uniform(-1, 1, detail["shape"]).astype(detail["dtype"])
            interpreter.set_tensor(detail["index"], noise)
        interpreters.append(interpreter)
    turns = [
        [_turn(interpreter, seconds) for interpreter in interpreters] for _ in range(rounds + 1)
    ]
    medians = np.array(turns[1:])  # (rounds, files)
    ratios = medians / medians[:, :1]
    return [
        Timing(
            median_ms=float(np.median(medians[:, index])) * 1000,
            ratio=float(np.median(ratios[:, index])),
            low=float(np.percentile(ratios[:, index], 25)),
            high=float(np.percentile(ratios[:, index], 75)),
        )
        for index in range(len(paths))
    ]


def _turn(interpreter, seconds):
    """Median CPU time of an inference in one turn, the first one left out."""
    interpreter.invoke()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        before = time.thread_time()
        interpreter.invoke()
        times.append(time.thread_time() - before)
    return float(np.median(times))
