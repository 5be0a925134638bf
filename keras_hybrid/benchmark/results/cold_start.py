"""The start of an app: loading, preparing and the first inference, with the caches' state."""

from collections.abc import Iterable

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.results.comparison import escape
from keras_hybrid.benchmark.results.tables import device_label, plural
from keras_hybrid.benchmark.rows import COLD_START, PROFILE, Row


def cold_start_table(rows: Iterable[Row]) -> str:
    """A line for each measurement and state of the caches; empty without any."""
    groups: dict[tuple, list[Row]] = {}
    splits: dict[tuple, list[dict]] = {}
    for row in latest(rows):
        if row.kind == COLD_START and row.status == "ok":
            caches = tuple(sorted(row.caches.items()))
            groups.setdefault((row.measurement, caches), []).append(row)
        elif row.kind == PROFILE and row.initialization:
            splits.setdefault(row.computation, []).append(row.initialization)
    if not groups:
        return ""
    lines = [
        "| device | model | delegate | processes | initialization, ms | of it | "
        "first inference, ms | together, ms | page cache | delegate's cache |",
        "|" + " --- |" * 10,
    ]
    for (_, caches), own in sorted(groups.items()):
        row, state = own[0], dict(caches)
        whole = [r for r in own if r.init_ms is not None and r.first_ms is not None]
        middles = [
            statistics.median(values) if values else None
            for values in (
                [r.init_ms for r in own if r.init_ms is not None],
                [r.first_ms for r in own if r.first_ms is not None],
                [r.init_ms + r.first_ms for r in whole],
            )
        ]
        init, first, both = ("" if value is None else f"{value:.2f}" for value in middles)
        split = next(iter(splits.get(row.computation, [])), {})
        parts = ", ".join(f"{name} {ms:.2f}" for name, ms in split.items())
        lines.append(
            f"| {escape(device_label(row))} | {escape(row.model)} | {escape(row.delegate)}, "
            f"{plural(row.num_threads, 'thread')} | {len(own)} | {init} | {escape(parts)} | "
            f"{first} | {both} | {escape(state.get('page_cache', ''))} | "
            f"{escape(state.get('delegate_cache', ''))} |"
        )
    lines += [
        "",
        "Each a fresh process. Of it: parts of the initialization, from a run with the profiler.",
    ]
    return "\n".join(lines) + "\n"
