"""Logs for tests, generated from the format strings by the stand-in, and a check on figures."""

import dataclasses
import functools
import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import standin

from keras_hybrid.benchmark.logs.parser import Report

FIGURES = [
    field.name
    for field in dataclasses.fields(Report)
    if field.name.endswith(("_ms", "_mb", "runs"))
]
TIMES = [name for name in FIGURES if not name.endswith("_mb")]


@functools.cache
def make_log(flavour="classic", *flags, slowdown="1"):
    """A whole log of the stand-in, written from the format strings."""
    model = Path(__file__)
    output = io.StringIO()
    os.environ["STANDIN_SLOWDOWN"] = slowdown
    try:
        with redirect_stdout(output), redirect_stderr(output):
            status = standin.main(
                flavour,
                [f"--graph={model}", "--num_threads=2", "--num_runs=30", "--min_secs=0.05", *flags],
            )
    finally:
        del os.environ["STANDIN_SLOWDOWN"]
    assert status == 0
    return output.getvalue()


LOGS = [
    make_log("classic", "--report_peak_memory_footprint=true"),
    make_log("classic", "--enable_op_profiling=true", "--use_xnnpack=true"),
    make_log("classic", slowdown="3000"),  # above a second: 1.24027e+06
    make_log("litert"),
    make_log("litert", "--use_profiler=true"),
]


TIMINGS = (
    "... tflite  : Inference timings in us: Init: 1007529, First inference: 4098, "
    "Warmup (avg): 1686.59, Inference (avg): 1687.92\n"
)


def as_logcat(log, pid=25289):
    """The log as `adb logcat -v threadtime` shows it."""
    letters = {"INFO": "I", "WARN": "W", "ERROR": "E", "VERBOSE": "V"}
    lines = []
    for line in log.splitlines():
        level, _, text = line.partition(": ")
        letter = letters.get(level)
        text = text if letter else line
        lines.append(f"07-14 13:23:08.133 {pid} {pid} {letter or 'I'} tflite  : {text}\n")
    return "".join(lines)


def as_old_build(log):
    """The log without prefixes and percentiles, as builds before 2020 print it."""
    lines = []
    for line in log.splitlines():
        line = line.removeprefix("INFO: ").removeprefix("VERBOSE: ")
        lines.append(line.partition(" p5=")[0] if line.startswith("count=") else line)
    return "\n".join(lines) + "\n"


def assert_same_or_nothing(report, whole, names=FIGURES):
    """Every figure is None or the whole log's, as exactly as the lines that are left print it."""
    rounding = 0.0101 if report.flavour in ("litert", "litert_python") else 0.0
    for name in names:
        value, expected = getattr(report, name), getattr(whole, name)
        if value is not None:
            assert value == pytest.approx(expected, rel=6e-6, abs=rounding), name
