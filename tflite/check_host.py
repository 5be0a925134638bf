"""Does the harness measure on this machine what `litert-benchmark` measures?

  python tflite/check_host.py MODEL.tflite... [--pairs=9] [--threads=1]

Runs the host target of `tflite/benchmark.py` and LiteRT's own `litert-benchmark` (a script of the
package ai-edge-litert) in turns, each time in a fresh process, and prints a row a model: the
median of both sides and the ratio, harness over `litert-benchmark`, of medians, means and fastest
inferences, each the median over the pairs with its quartiles.

Exit status: 0 when every ratio of medians is within --bound of 1; 1 when one is not; 2 wrong usage.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

from keras_hybrid.benchmark import benchmark_host
from keras_hybrid.benchmark.results import statistics

FLAGS = flags.FLAGS
flags.DEFINE_integer("pairs", 9, "Processes of each side.", lower_bound=1)
flags.DEFINE_integer("threads", 1, "Threads of an inference.", lower_bound=1)
flags.DEFINE_integer("runs", 200, "Measured inferences of a process.", lower_bound=10)
flags.DEFINE_float("bound", 0.05, "Farthest that a ratio of medians may be from 1.")

MEASURES = ("median_ms", "avg_ms", "min_ms")  # litert-benchmark's names


def by_harness(path):
    """One process of the harness: its median, mean and fastest inference in ms."""
    row = benchmark_host(
        path,
        FLAGS.threads,
        warmup_runs=20,
        warmup_seconds=0.0,
        min_runs=FLAGS.runs,
        min_seconds=0.0,
        max_seconds=600.0,
        max_spread=9.0,
    )
    if row.status != "ok":
        raise ValueError(f"{path}: {'; '.join(row.notes)}")
    return row.median_ms, row.mean_ms, row.min_ms


def by_litert_benchmark(program, path):
    """One process of `litert-benchmark`: the same three."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        command = [
            program,
            f"--model={path}",
            f"--num_runs={FLAGS.runs}",
            "--warmup_runs=20",
            f"--num_threads={FLAGS.threads}",
            f"--result_json={result}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode or not result.exists():
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise ValueError(f"litert-benchmark failed on {path}: {lines[-1]}")
        latency = json.loads(result.read_text(encoding="utf-8"))["latency"]
    return tuple(latency[name] for name in MEASURES)


def compare(program, path):
    """Pairs of measurements, the sides taking turns in going first."""
    pairs = []
    for index in range(FLAGS.pairs):
        print(f"\r{Path(path).name}: pair {index + 1} of {FLAGS.pairs} ", end="", file=sys.stderr)
        if index % 2:
            theirs = by_litert_benchmark(program, path)
            ours = by_harness(path)
        else:
            ours = by_harness(path)
            theirs = by_litert_benchmark(program, path)
        pairs.append((ours, theirs))
    print(file=sys.stderr)
    return pairs


def table_row(path, pairs):
    """The row's text, and the median ratio of medians."""
    cells = [
        f"{statistics.median([pair[side][0] for pair in pairs]):8.2f}"
        for side in range(len(pairs[0]))
    ]
    middles = []
    for measure in range(len(MEASURES)):
        ratios = [ours[measure] / theirs[measure] for ours, theirs in pairs]
        low, middle, high = (statistics.quantile(ratios, share) for share in (0.25, 0.5, 0.75))
        cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        middles.append(middle)
    return f"| {Path(path).name} | " + " | ".join(cells) + " |", middles[0]


def main(argv):
    program = shutil.which("litert-benchmark", path=str(Path(sys.executable).parent))
    program = program or shutil.which("litert-benchmark")
    if len(argv) < 2:
        raise app.UsageError("Name at least one .tflite file.")
    try:
        if program is None:
            raise ValueError("litert-benchmark was not found: pip install ai-edge-litert")
        rows = [table_row(path, compare(program, path)) for path in argv[1:]]
    except ValueError as error:
        print(f"check_host: {error}", file=sys.stderr)
        sys.exit(2)
    print(
        f"{FLAGS.pairs} pairs of processes, {FLAGS.runs} inferences each, {FLAGS.threads} thread(s)"
    )
    print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores at the end\n")
    print("| model | harness, ms | litert-benchmark, ms | medians | means | fastest |")
    print("|" + " --- |" * 6)
    print(*(text for text, _ in rows), sep="\n")
    far = [path for path, (_, ratio) in zip(argv[1:], rows, strict=True)
           if abs(ratio - 1) > FLAGS.bound]  # fmt: skip
    if far:
        print(f"\nfarther than {FLAGS.bound:.0%} from each other: {', '.join(far)}")
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
