"""Latency over minutes of uninterrupted work: what is left of a figure when the device is hot."""

import dataclasses
import datetime
from collections.abc import Iterable

from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.results.comparison import escape
from keras_hybrid.benchmark.results.tables import clock_ghz, device_label, plural
from keras_hybrid.benchmark.rows import SUSTAINED, Row


@dataclasses.dataclass(frozen=True)
class SustainedRun:
    """One session's sustained run of one model.

    Attributes:
        minutes, times_ms: the curve: when each process began, and its median.
        first_ms, last_ms: medians of the first and of the last minute.
        p90_ms: nine of ten processes were at most so slow.
        battery_c: temperature at the start and at the end, None where it is not known.
        hottest_c: the hottest sensor while the first and the last process ran, likewise.
        clock_ghz: of the core that was clocked highest, likewise.
        capped: whether cores were capped at the end.
    """

    title: str
    minutes: tuple[float, ...]
    times_ms: tuple[float, ...]
    first_ms: float
    last_ms: float
    p90_ms: float
    battery_c: tuple[float | None, float | None]
    hottest_c: tuple[float | None, float | None]
    clock_ghz: tuple[float | None, float | None]
    capped: bool


def sustained_runs(rows: Iterable[Row]) -> list[SustainedRun]:
    """One for each measurement and session that has sustained rows with figures."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.kind == SUSTAINED and row.status == "ok" and row.central_ms:
            groups.setdefault((row.measurement, row.session), []).append(row)
    return [_run(group) for _, group in sorted(groups.items())]


def _run(rows):
    rows = sorted(rows, key=lambda row: row.repetition)
    moments = [datetime.datetime.fromisoformat(row.started) for row in rows]
    seconds = [(moment - moments[0]).total_seconds() for moment in moments]
    times = [row.central_ms for row in rows]
    first = [t for t, second in zip(times, seconds, strict=True) if second < 60]
    last = [t for t, second in zip(times, seconds, strict=True) if second > seconds[-1] - 60]
    one = rows[0]
    threads = plural(one.num_threads, "thread")
    return SustainedRun(
        title=f"{one.model}, {device_label(one)}, {one.program}, {one.delegate}, {threads}",
        minutes=tuple(second / 60 for second in seconds),
        times_ms=tuple(times),
        first_ms=statistics.median(first),
        last_ms=statistics.median(last),
        p90_ms=statistics.quantile(times, 0.9),
        battery_c=(rows[0].state_before.get("battery_c"), rows[-1].state_after.get("battery_c")),
        hottest_c=tuple(row.during.get("hottest_c", [None])[-1] for row in (rows[0], rows[-1])),
        clock_ghz=(clock_ghz(rows[0]), clock_ghz(rows[-1])),
        capped=any("capped" in note for note in rows[-1].notes),
    )


def sustained_table(runs: list[SustainedRun]) -> str:
    lines = [
        "| run | minutes | processes | first minute, ms | last minute, ms | ratio | p90, ms "
        "| battery, C | hottest, C | GHz | capped at the end |",
        "|" + " --- |" * 11,
    ]
    for run in runs:
        battery, hottest, clock = map(_from_to, (run.battery_c, run.hottest_c, run.clock_ghz))
        lines.append(
            f"| {escape(run.title)} | {run.minutes[-1]:.1f} | {len(run.times_ms)} | "
            f"{run.first_ms:.3f} | {run.last_ms:.3f} | {run.last_ms / run.first_ms:.3f} | "
            f"{run.p90_ms:.3f} | {battery} | {hottest} | {clock} | {_yes(run.capped)} |"
        )
    return "\n".join(lines) + "\n"


def _from_to(pair):
    begin, end = ("?" if value is None else f"{value:.3g}" for value in pair)
    return f"{begin} to {end}"


def _yes(truth):
    return "yes" if truth else "no"
