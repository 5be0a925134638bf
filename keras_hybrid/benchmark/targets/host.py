"""Times a `.tflite` on this machine with LiteRT's interpreter, in a process of its own."""

import datetime
import json
import time
from pathlib import Path

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.rows import Row
from keras_hybrid.benchmark.workers import run_worker

INTERPRETER_KERNELS = ("cpu", "builtin")  # XNNPACK, and LiteRT's own kernels
MAX_SPREAD = 0.02


def benchmark_host(
    model_path,
    num_threads: int = 1,
    *,
    delegate: str = "cpu",
    warmup_runs: int = 10,
    warmup_seconds: float = 0.5,
    min_runs: int = 50,
    min_seconds: float = 1.0,
    max_seconds: float = 30.0,
    max_spread: float = MAX_SPREAD,
    repetition: int = 0,
    session: str = "",
) -> Row:
    """Times one model on this machine.

    After the warm-up, inferences are timed until there are `min_runs` of them, `min_seconds`
    have passed and the median is known to `max_spread`, or until `max_seconds` have passed (the
    row's notes say so).

    Args:
        model_path: path of the `.tflite`.
        delegate: "cpu" (XNNPACK, the default of LiteRT) or "builtin" (LiteRT's own kernels).
        max_spread: half the width of the median's 95% interval, relative to the median.

    Returns:
        A `Row`. Its status is "failed" if the process ended with an error, which is in the notes.

    Raises:
        ValueError: for a missing file or an impossible argument.
    """
    path = Path(model_path)
    if not path.is_file():
        raise ValueError(f"model_path must be a .tflite file. Received: model_path={model_path!r}")
    if delegate not in INTERPRETER_KERNELS:
        raise ValueError(
            f"On the host, delegate must be one of {INTERPRETER_KERNELS}. "
            f"Received: delegate={delegate!r}"
        )
    for name, value, least in (
        ("num_threads", num_threads, 1),
        ("warmup_runs", warmup_runs, 0),
        ("min_runs", min_runs, 1),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer >= {least}. Received: {name}={value!r}")
    if max_seconds < min_seconds or max_spread <= 0:
        raise ValueError(
            "max_seconds >= min_seconds and max_spread > 0 are expected. Received: "
            f"max_seconds={max_seconds}, min_seconds={min_seconds}, max_spread={max_spread}"
        )
    request = {
        "model_path": str(path.resolve()),
        "num_threads": num_threads,
        "delegate": delegate,
        "warmup_runs": warmup_runs,
        "warmup_seconds": warmup_seconds,
        "min_runs": min_runs,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
        "max_spread": max_spread,
    }
    common = {
        "model": path.name,
        "num_threads": num_threads,
        "target": "host",
        "delegate": delegate,
        "repetition": repetition,
        "session": session,
        "device": provenance.host_device(),
        "binary": provenance.host_runtime(),
        "command": command_of_request(request),
        "model_sha256": provenance.sha256(path),
        "model_bytes": path.stat().st_size,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "state_before": provenance.host_state(),
        **provenance.harness(),
    }
    start = time.monotonic()
    fields = _time(request)
    common["seconds"] = round(time.monotonic() - start, 3)
    common["state_after"] = provenance.host_state()
    return Row(**fields, **common)


def time_on_host(model_path, **request) -> dict:
    """The fields of a `Row` that timing a model gives: the figures, "status" and "notes".

    Args:
        request: arguments of `benchmark_host`.
    """
    return _time(
        {"model_path": str(Path(model_path).resolve()), "max_spread": MAX_SPREAD, **request}
    )


def _time(request):
    result, error = _run_worker(request)
    if result is None:
        return {"status": "failed", "notes": (error,)}
    times = result.pop("times")
    warmup = result.pop("warmup_times")
    spread, bound = result.pop("spread"), request["max_spread"]
    notes = ()
    if spread > bound and request["min_runs"] > 1:
        notes = (
            f"spread {spread:.1%} after max_seconds={request['max_seconds']:g} (bound {bound:.1%})",
        )
    return {
        "status": "ok",
        "median_ms": statistics.median(times),
        "mean_ms": statistics.mean(times),
        "p5_ms": statistics.quantile(times, 0.05),
        "p90_ms": statistics.quantile(times, 0.90),
        "p95_ms": statistics.quantile(times, 0.95),
        "std_ms": statistics.standard_deviation(times),
        "min_ms": min(times),
        "max_ms": max(times),
        "runs": len(times),
        "first_ms": warmup[0],
        "warmup_ms": statistics.mean(warmup),
        "warmup_runs": len(warmup),
        "notes": notes,
        **result,
    }


def command_of_request(request: dict) -> tuple[str, ...]:
    """A request to the worker as a row's `command`, without the file."""
    return tuple(f"{name}={value}" for name, value in request.items() if name != "model_path")


def _run_worker(request):
    """The worker's result and "", or None and what went wrong."""
    limit = 120 + 20 * request["max_seconds"] + 10 * request["warmup_seconds"]
    module = "keras_hybrid.benchmark.targets.host_worker"
    return run_worker(module, [json.dumps(request)], limit)
