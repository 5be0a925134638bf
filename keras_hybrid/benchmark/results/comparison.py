"""Is it slower than before? Ratios with intervals between two sets of rows."""

import dataclasses
import math
from collections.abc import Iterable

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.rows import Row

LEAST_REPETITIONS = 3
# Of each of two looks, at the least number of processes and at the most: together about 95%.
CONFIDENCE = 0.97
UNDECIDED = 4  # the exit status of a comparison that found no answer
WITHIN_SESSIONS = (
    "Intervals within these sessions say how well each session's own figure is known, not how "
    "sessions differ: measure two or more on either side, or both files in one session with --ab."
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One configuration in both sets.

    Args:
        ratio: later over earlier; None if one side has too few rows.
        verdict: "slower", "faster", "same" (within the tolerance), "undecided" (the interval
            reaches beyond it) or "lost" (measured earlier, not measured now).
        changed: what else differs, e.g. the binary: then the ratio may not be the model's.
        spread: what the interval includes: "over pairs", "between sessions" or "within these
            sessions", which says nothing of how sessions differ.
    """

    configuration: tuple
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    earlier_rows: int
    later_rows: int
    changed: tuple[str, ...] = ()
    spread: str = ""


def compare(
    earlier: Iterable[Row],
    later: Iterable[Row],
    *,
    tolerance: float = 0.05,
    confidence: float = CONFIDENCE,
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
    """1 if something became slower or was lost, else `UNDECIDED` if something is open, else 0."""
    verdicts = {c.verdict for c in comparisons}
    if verdicts & {"slower", "lost"}:
        return 1
    return UNDECIDED if "undecided" in verdicts else 0


def _by_configuration(rows):
    groups = {}
    for row in latest(rows):
        if row.kind == "latency":
            device, program, model, *others = row.configuration
            name = f"{model} {row.variant}".rstrip()
            groups.setdefault((device, program, name, *others), []).append(row)
    return groups


def _times(rows):
    return [row.central_ms for row in rows if row.status == "ok" and row.central_ms]


def _sessions(rows):
    """The times of each session."""
    groups = {}
    for row in rows:
        groups.setdefault(row.session, []).append(row)
    return [times for times in map(_times, groups.values()) if times]


def _of_same_conditions(earlier, later):
    """The rows of one measurement on either side: of a common one, else of the newest."""
    sides = []
    for rows in (earlier, later):
        groups = {}
        for row in sorted(rows, key=lambda row: row.started):
            groups.setdefault((row.model_sha256, row.conditions), []).append(row)
        sides.append(groups)
    common = [key for key in sides[1] if key in sides[0]]
    keys = [common[-1]] * 2 if common else [next(reversed(side), None) for side in sides]
    return [side.get(key, []) for side, key in zip(sides, keys, strict=True)]


def decide(low: float, high: float, tolerance: float) -> str:
    """The verdict on a ratio whose interval is known."""
    if low > 1 + tolerance:
        return "slower"
    if high < 1 - tolerance:
        return "faster"
    return "same" if 1 - tolerance <= low and high <= 1 + tolerance else "undecided"


def _compare(configuration, earlier, later, tolerance, confidence):
    earlier, later = _of_same_conditions(earlier, later)
    before, now = _times(earlier), _times(later)
    sessions = [_sessions(rows) for rows in (earlier, later)]
    ratio = low = high = None
    spread = ""
    if before and not now:
        verdict = "lost"
    elif min(map(len, sessions)) >= 2:
        ratio, low, high = statistics.grouped_ratio_interval(*sessions, confidence=confidence)
        verdict, spread = decide(low, high, tolerance), "between sessions"
    elif min(len(before), len(now)) < LEAST_REPETITIONS:
        verdict = "undecided"
        if before and now:
            ratio = math.exp(
                statistics.mean([math.log(t) for t in now])
                - statistics.mean([math.log(t) for t in before])
            )
    else:
        ratio, low, high = statistics.ratio_interval(before, now, confidence=confidence)
        if high == math.inf:  # so few that resampling tells nothing
            low, high, verdict = None, None, "undecided"
        else:
            verdict, spread = decide(low, high, tolerance), "within these sessions"
    return Comparison(
        configuration,
        ratio,
        low,
        high,
        verdict,
        len(before),
        len(now),
        _changed(earlier, later),
        spread,
    )


def _changed(earlier, later):
    """What makes a measurement and differs between the two sides, flag by flag."""
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
    flags = [{flag for row in rows for flag in row.conditions[3]} for rows in (earlier, later)]
    if earlier and later and flags[0] != flags[1]:
        gone, new = sorted(flags[0] - flags[1]), sorted(flags[1] - flags[0])
        changes.append(
            "flags: "
            + " ".join([*(f"without {flag}" for flag in gone), *(f"with {f}" for f in new)])
        )
    return tuple(changes)


def compare_pairs(
    rows: Iterable[Row],
    first: str,
    second: str,
    *,
    tolerance: float = 0.02,
    confidence: float = CONFIDENCE,
) -> list[Comparison]:
    """Compares two models that were run in turns, pair by pair, in the same session.

    What the device did meanwhile (clocks, heat, other apps) falls on both of a pair: the interval
    is that of the ratios, and holds whatever sessions differ by.

    Args:
        rows: of a session with `paired=True`; the pairs are the rows of one repetition.
        first, second: names of the two models.

    Raises:
        ValueError: if no pair is complete.
    """

    def side_of(row):
        return {first: "A", second: "B"}.get(row.model)

    found = _compare_pairs(
        rows,
        side_of,
        lambda row: (row.device_id, row.program, row.num_threads, row.delegate, row.conditions),
        lambda row: f"{second} over {first}",
        tolerance,
        confidence,
    )
    if not found:
        raise ValueError(
            "Both models must have been measured in one session. Received: no repetition with an "
            f'"ok" row of both {first!r} and {second!r}'
        )
    return found


def compare_variants(
    rows: Iterable[Row], *, tolerance: float = 0.02, confidence: float = CONFIDENCE
) -> list[Comparison]:
    """`compare_pairs` of one model with two binaries or sets of flags: the variants "A" and "B".

    Raises:
        ValueError: if no pair is complete.
    """
    found = _compare_pairs(
        rows,
        lambda row: row.variant if row.variant in ("A", "B") else None,
        lambda row: (row.device_id, row.program, row.num_threads, row.delegate, row.model_sha256),
        lambda row: f"{row.model}, B over A",
        tolerance,
        confidence,
    )
    if not found:
        raise ValueError(
            "Both variants must have been measured in one session. Received: no repetition with "
            'an "ok" row of both'
        )
    return found


def _compare_pairs(rows, side_of, key_of, name_of, tolerance, confidence):
    """Ratios of B over A for each key, of the rows of one session and repetition."""
    groups: dict[tuple, dict[str, dict[tuple, Row]]] = {}
    for row in latest(rows):
        side = side_of(row)
        if side and row.kind == "latency" and row.status == "ok" and row.central_ms:
            sides = groups.setdefault(key_of(row), {"A": {}, "B": {}})
            sides[side][(row.session, row.repetition)] = row
    found = []
    for _, sides in sorted(groups.items()):
        pairs = [
            (sides["A"][key], sides["B"][key]) for key in sorted(sides["A"]) if key in sides["B"]
        ]
        ratios = [one.central_ms / other.central_ms for other, one in pairs]
        if not ratios:
            continue
        row = pairs[0][0]
        configuration = (
            row.device_id,
            row.program,
            name_of(row),
            row.num_threads,
            row.delegate,
            "latency",
        )
        ratio, low, high, verdict = ratios[0], None, None, "undecided"
        if len(ratios) >= LEAST_REPETITIONS:
            ratio, low, high = statistics.typical_interval(ratios, confidence)
            verdict = decide(low, high, tolerance)
        changed = _changed(*zip(*pairs, strict=True)) if row.variant else ()
        count = len(ratios)
        found.append(
            Comparison(
                configuration, ratio, low, high, verdict, count, count, changed, "over pairs"
            )
        )
    return found


def comparison_table(comparisons: list[Comparison]) -> str:
    lines = [
        "| device | program | model | threads | delegate | ratio | interval | verdict | spread "
        "| rows | changed |",
        "|" + " --- |" * 11,
    ]
    for c in comparisons:
        device, program, model, threads, delegate, _ = c.configuration
        ratio = "" if c.ratio is None else f"{c.ratio:.3f}"
        interval = "" if c.low is None else f"{c.low:.3f} to {c.high:.3f}"
        lines.append(
            f"| {device} | {program} | {escape(model)} | {threads} | {delegate} | {ratio} | "
            f"{interval} | {c.verdict} | {c.spread} | {c.earlier_rows} / {c.later_rows} | "
            f"{escape(', '.join(c.changed))} |"
        )
    if any(c.spread == "within these sessions" for c in comparisons):
        lines += ["", WITHIN_SESSIONS]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` as it must stand in a Markdown table to be read as it is."""
    for character in "\\`*_|<>[]$":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
