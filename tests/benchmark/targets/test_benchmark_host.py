"""Timing on this machine from Python, and against `litert-benchmark`."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_hybrid.benchmark import benchmark_host
from keras_hybrid.benchmark.results import parts
from keras_hybrid.benchmark.targets.host_profile import profile_host


def test_a_row_is_whole(small_model, require):
    require(module="ai_edge_litert")
    row = benchmark_host(small_model, num_threads=2, warmup_runs=2, warmup_seconds=0.0, min_runs=20,
                         min_seconds=0.0, max_seconds=3.0)  # fmt: skip
    assert row.status == "ok" and row.num_threads == 2 and row.warmup_runs == 2
    assert row.runs >= 20
    assert row.min_ms <= row.median_ms <= row.p90_ms <= row.max_ms
    assert row.first_ms > 0 and row.init_ms > 0 and row.std_ms >= 0
    assert 0 < row.overall_memory_mb < 200  # the model's growth, not TensorFlow's in this process
    assert row.peak_memory_mb is None  # of a process that holds Python, too
    assert row.as_dict()["median_ms"] == row.median_ms
    assert dataclasses.is_dataclass(row)


def test_the_limit_ends_a_run_that_will_not_settle(small_model, require):
    require(module="ai_edge_litert")
    row = benchmark_host(small_model, warmup_runs=1, warmup_seconds=0.0, min_runs=5,
                         min_seconds=0.0, max_seconds=0.3, max_spread=1e-9)  # fmt: skip
    assert row.status == "ok" and any("max_seconds=0.3" in note for note in row.notes)


def test_a_broken_model_is_a_failed_row(tmp_path, require):
    require(module="ai_edge_litert")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x1c\0\0\0TFL3" + b"nonsense" * 9)
    row = benchmark_host(broken)
    assert row.status == "failed" and row.median_ms is None
    assert "the process ended with status" in row.notes[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"model_path": "missing.tflite"},
        {"delegate": "gpu"},
        {"num_threads": 0},
        {"num_threads": 1.5},
        {"min_runs": 0},
        {"max_seconds": 0.5, "min_seconds": 1.0},
        {"max_spread": 0.0},
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"x")
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f"Received: .*{name}="):
        benchmark_host(**{"model_path": path, **arguments})


@pytest.mark.large
def test_check_host_compares_with_litert_benchmark(small_model, require):
    """That the figures are of one kind and one size; how close they are is the program's to say."""
    require(module="ai_edge_litert")

    def check(*arguments):
        program = Path(__file__).parents[3] / "tflite" / "check_host.py"
        command = [sys.executable, str(program), "--pairs=2", "--runs=50", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    done = check(str(small_model), "--bound=3")
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if small_model.name in line)
    ratios = [float(ratio) for ratio in re.findall(r"(\S+) \(\S+ to \S+\)", row)]
    assert len(ratios) == 3 and all(1 / 3 < ratio < 3 for ratio in ratios)
    far = check(str(small_model), "--bound=0")
    assert far.returncode == 1 and "farther than 0%" in far.stdout
    assert check("missing.tflite").returncode == 2


def test_a_profile_without_a_benchmark_model_sums_to_the_inference(small_model, tmp_path, require):
    """LiteRT's own profiler: its operators are the delegate's, and nothing else takes long."""
    require(module="ai_edge_litert")
    fields, log = profile_host(small_model, num_threads=1, runs=30)
    assert fields["status"] == "ok", fields["notes"]
    kinds = [operator["kind"] for operator in fields["profile"]]
    assert sum(parts.family(kind) == "convolution" for kind in kinds) == 6
    own = [operator for operator in fields["profile"] if operator["name"]]
    total = sum(operator["ms"] for operator in own)
    profiled = float(re.search(r"and ([\d.]+) ms with it", fields["notes"][0])[1])
    assert 0.4 < total / profiled < 1.05  # the rest is the profiler, and other programs
    between = [o["ms"] for o in fields["profile"] if o["kind"] == parts.BETWEEN_OPERATORS]
    assert sum(between) == pytest.approx(max(0.0, fields["mean_ms"] - total))
    assert parts.attribute(fields["profile"], [])[len(own) :] == [parts.RUNTIME] * len(between)
    assert "Run Order" in log
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x1c\0\0\0TFL3" + b"nonsense" * 9)
    fields, _ = profile_host(broken)
    assert fields["status"] == "failed" and "profiler ended with status" in fields["notes"][0]
