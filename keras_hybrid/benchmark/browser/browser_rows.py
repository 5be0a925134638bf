"""What a browser measured, as a row like any other target's."""

import math
import statistics
from collections.abc import Sequence

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.rows import Row

TARGET = "browser"
DELEGATES = {"wasm": "cpu", "webgpu": "gpu"}
MOST_TIMES, MOST_NOTES, MOST_CHARACTERS = 10_000, 40, 400


def browser_row(posted: dict, model: str, path, version: str, session: str, started: str) -> Row:
    """A row of what the page posted.

    Args:
        posted: `accelerator`, `threads`, `times` in milliseconds, `init_ms`, `first_ms`,
            `whole` (whether the accelerator took all operators), `messages`, `agent`, `gpu` and
            `cores`.
        model: name of the file.
        path: of the file.
        version: of LiteRT.js.
        session: of this run of the server.
        started: when, in ISO 8601.

    Raises:
        ValueError: for what no page of ours posts.
    """
    accelerator = posted.get("accelerator")
    if accelerator not in DELEGATES:
        raise ValueError(f"wasm or webgpu is expected. Received: accelerator={accelerator!r}")
    times = _times(posted.get("times"))
    ordered = sorted(times)
    whole = bool(posted.get("whole"))
    notes = [_text(message) for message in _list(posted.get("messages"))[:MOST_NOTES]]
    if not whole:
        notes.insert(0, "the browser's engine left operators to another one")
    return Row(
        model=model,
        num_threads=_number(posted.get("threads"), whole=True),
        target=TARGET,
        delegate=DELEGATES[accelerator],
        status="ok" if whole or accelerator == "wasm" else "fell_back",
        notes=tuple(notes if accelerator == "webgpu" else ()),
        median_ms=statistics.median(times),
        mean_ms=statistics.fmean(times),
        p5_ms=_percentile(ordered, 5),
        p90_ms=_percentile(ordered, 90),
        p95_ms=_percentile(ordered, 95),
        std_ms=statistics.pstdev(times),
        min_ms=ordered[0],
        max_ms=ordered[-1],
        runs=len(times),
        init_ms=_number(posted.get("init_ms")),
        first_ms=_number(posted.get("first_ms")),
        device={
            "serial": None,
            "model": _text(posted.get("agent")),
            "soc": _text(posted.get("gpu")) if accelerator == "webgpu" else None,
            "system": _text(posted.get("agent")),
            "cores": _number(posted.get("cores"), whole=True),
        },
        binary={"name": "LiteRT.js", "version": version, "flavour": accelerator},
        model_sha256=provenance.sha256(path),
        model_bytes=path.stat().st_size,
        started=started,
        session=session,
        **provenance.harness(),
    )


def _times(values):
    values = [_number(value) for value in _list(values)]
    if not 1 <= len(values) <= MOST_TIMES or min(values) < 0:
        raise ValueError(f"1 to {MOST_TIMES} times are expected. Received: {len(values)}")
    return values


def _list(values):
    if not isinstance(values, list):
        raise ValueError(f"A list is expected. Received: {type(values).__name__}")
    return values


def _number(value, whole=False):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"A number is expected. Received: {value!r}")
    return int(value) if whole else float(value)


def _text(value):
    return str(value or "unknown")[:MOST_CHARACTERS]


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear between the two nearest, as NumPy's."""
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
