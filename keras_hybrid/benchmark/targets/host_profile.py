"""A profile by operator on this machine without a `benchmark_model`: LiteRT's own profiler."""

import json
import os
import subprocess
import sys
from pathlib import Path

from keras_hybrid.benchmark.logs.lines import read_lines
from keras_hybrid.benchmark.logs.profile_tables import read_profile
from keras_hybrid.benchmark.results.parts import BETWEEN_OPERATORS
from keras_hybrid.benchmark.targets.profile_worker import MARKER


def profile_host(
    model_path, num_threads: int = 1, *, warmup_runs: int = 5, runs: int = 50, seconds: float = 300
) -> tuple[dict, str]:
    """Profiles a model in a process of its own.

    Args:
        runs: inferences that are timed without the profiler, and as many with it.
        seconds: the limit of all.

    Returns:
        Fields of a `Row` ("status", "notes", "profile", "mean_ms", "runs") and the whole output.
        `mean_ms` is the time of an inference without the profiler. What of it is no operator's
        own stands in the profile as `BETWEEN_OPERATORS`: a small network of many operators spends
        a fifth of its time on going from one to the next.
    """
    request = {
        "model_path": str(Path(model_path).resolve()),
        "num_threads": num_threads,
        "warmup_runs": warmup_runs,
        "runs": runs,
    }
    worker = Path(__file__).with_name("profile_worker.py")
    try:
        done = subprocess.run(
            [sys.executable, str(worker), json.dumps(request)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            start_new_session=True,  # Ctrl-C is for the harness, which ends runs in order
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    except subprocess.TimeoutExpired:
        return {"status": "failed", "notes": (f"no profile within {seconds:g} s",)}, ""
    table, found, result = done.stdout.rpartition(MARKER)
    log = done.stdout + done.stderr
    profile = read_profile(read_lines(table)) if found else None
    if done.returncode or profile is None:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        note = f"the profiler ended with status {done.returncode}: {reason}"
        return {"status": "failed", "notes": (note,)}, log
    times = json.loads(result)
    operators = tuple(
        {"kind": o.kind, "name": o.name, "ms": o.average_ms, "subgraph": o.subgraph}
        for o in profile.operators
    )
    total = sum(operator["ms"] for operator in operators)
    notes = (
        f"operators sum to {total:.3f} ms; an inference takes {times['bare_ms']:.3f} ms without "
        f"the profiler and {times['profiled_ms']:.3f} ms with it",
    )
    if (rest := times["bare_ms"] - total) > 0:
        between = {"kind": BETWEEN_OPERATORS, "name": "", "ms": rest, "subgraph": 0}
        operators = (*operators, between)
    return {
        "status": "ok" if profile.complete else "invalid",
        "notes": notes if profile.complete else (*notes, "the operator table is cut"),
        "profile": operators,
        "mean_ms": times["bare_ms"],
        "runs": times["runs"],
    }, log
