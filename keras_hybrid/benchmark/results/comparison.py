"""Is it slower than before? Ratios with intervals between two sets of rows."""

import dataclasses
import math
from collections.abc import Iterable

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.rows import Row

LEAST_REPETITIONS = 3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One configuration in both sets.

    Args:
        ratio: later over earlier; None if one side has too few rows.
        verdict: "slower", "faster", "same" (within the tolerance), "undecided" (the interval
            reaches beyond it) or "lost" (measured earlier, not measured now).
        changed: what else differs, e.g. the binary: then the ratio may not be the model's.
    """

    configuration: tuple
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    earlier_rows: int
    later_rows: int
    changed: tuple[str, ...] = ()


def compare(
    earlier: Iterable[Row],
    later: Iterable[Row],
    *,
    tolerance: float = 0.05,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Compares every configuration of the earlier rows with the later ones.

    Args:
        tolerance: "slower" means slower by more than this share with all of the interval.

    Raises:
        ValueError: for a negative tolerance, or if the sets have no configuration in common.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance must not be negative. Received: tolerance={tolerance}")
    groups = [_by_configuration(rows) for rows in (earlier, later)]
    if not groups[0].keys() & groups[1].keys():
        raise ValueError(
            "Both sets of rows must have a configuration (device, program, model, threads, "
            f"delegate) in common. Received: {sorted(groups[0])} and {sorted(groups[1])}"
        )
    return [
        _compare(configuration, rows, groups[1].get(configuration, []), tolerance, confidence)
        for configuration, rows in sorted(groups[0].items())
    ]


def comparison_status(comparisons: list[Comparison]) -> int:
    """1 if something became slower or was lost, else 0."""
    return int(any(c.verdict in ("slower", "lost") for c in comparisons))


def _by_configuration(rows):
    groups = {}
    for row in latest(rows):
        if row.kind == "latency":
            groups.setdefault(row.configuration, []).append(row)
    return groups


def _times(rows):
    return [row.central_ms for row in rows if row.status == "ok" and row.central_ms]


def _compare(configuration, earlier, later, tolerance, confidence):
    before, now = _times(earlier), _times(later)
    ratio = low = high = None
    if before and not now:
        verdict = "lost"
    elif min(len(before), len(now)) < LEAST_REPETITIONS:
        verdict = "undecided"
        if before and now:
            ratio = math.exp(
                statistics.mean([math.log(t) for t in now])
                - statistics.mean([math.log(t) for t in before])
            )
    else:
        ratio, low, high = statistics.ratio_interval(before, now, confidence=confidence)
        if low > 1 + tolerance:
            verdict = "slower"
        elif high < 1 - tolerance:
            verdict = "faster"
        elif 1 - tolerance <= low and high <= 1 + tolerance:
            verdict = "same"
        else:
            verdict = "undecided"
    return Comparison(
        configuration, ratio, low, high, verdict, len(before), len(now), _changed(earlier, later)
    )


def _changed(earlier, later):
    """Provenance that differs between the two sides."""
    changes = []
    for name, value in (
        ("model file", lambda row: row.model_sha256),
        ("binary", lambda row: (row.binary.get("sha256"), row.binary.get("version"))),
        ("system", lambda row: row.device.get("fingerprint") or row.device.get("system")),
        ("cores", lambda row: row.cpu_mask),
        ("way of taking the middle", lambda row: row.median_ms is None),
    ):
        sides = [{value(row) for row in rows if row.status == "ok"} for rows in (earlier, later)]
        if all(sides) and sides[0] != sides[1]:
            changes.append(name)
    return tuple(changes)


def comparison_table(comparisons: list[Comparison]) -> str:
    lines = [
        "| device | program | model | threads | delegate | ratio | interval | verdict | rows "
        "| changed |",
        "|" + " --- |" * 10,
    ]
    for c in comparisons:
        device, program, model, threads, delegate, _ = c.configuration
        ratio = "" if c.ratio is None else f"{c.ratio:.3f}"
        interval = "" if c.low is None else f"{c.low:.3f} to {c.high:.3f}"
        lines.append(
            f"| {device} | {program} | {escape(model)} | {threads} | {delegate} | {ratio} | "
            f"{interval} | {c.verdict} | {c.earlier_rows} / {c.later_rows} | "
            f"{', '.join(c.changed)} |"
        )
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` as it must stand in a Markdown table to be read as it is."""
    for character in "\\`*_|<>[]$":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
