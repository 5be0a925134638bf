"""The table for a terminal: aligned, and short. The files have all columns."""

from collections.abc import Iterable

from keras_hybrid.benchmark.results.tables import summarize
from keras_hybrid.benchmark.rows import Row

TITLES = ("device", "model", "threads", "delegate", "median ms", "p90 ms", "spread", "delegated")
RIGHT = {"threads", "median ms", "p90 ms", "spread"}


def rows_as_text(rows: Iterable[Row]) -> str:
    """One line a measurement, then what rows are none, and why.

    A column in which nothing stands is left out.
    """
    rows = list(rows)
    lines = [_cells(summary) for summary in summarize(rows)]
    shown = [place for place in range(len(TITLES)) if any(line[place] for line in lines)]
    table = [[line[place] for place in shown] for line in (TITLES, *lines)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    texts = [
        "  ".join(
            f"{cell:{'>' if TITLES[place] in RIGHT else '<'}{width}}"
            for place, cell, width in zip(shown, line, widths, strict=True)
        ).rstrip()
        for line in table
    ]
    flawed = [
        f"{row.model}, {row.delegate}, #{row.repetition}: {row.status}"
        + (f": {row.notes[0]}" if row.notes else "")
        for row in rows
        if row.status != "ok"
    ]
    return "\n".join(texts + ([""] + flawed if flawed else []))


def _cells(found):
    return (
        found.device,
        f"{found.model} ({found.conditions})" if found.conditions else found.model,
        str(found.num_threads),
        found.delegate,
        "" if found.median_ms is None else f"{found.median_ms:.3f}",
        "" if found.p90_ms is None else f"{found.p90_ms:.3f}",
        "" if found.spread is None else f"{found.spread:.1%}",
        found.delegated,
    )
