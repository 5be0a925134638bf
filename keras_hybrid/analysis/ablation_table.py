"""Finished runs of an ablation, as the table that stands beside the paper's."""

import statistics
from collections.abc import Sequence

from keras_hybrid.analysis.ablations import Ablation


def ablation_table(
    ablation: Ablation, runs: Sequence[dict], latencies: dict[str, float] | None = None
) -> str:
    """The table in Markdown: what was measured, beside what the paper reports.

    Args:
        ablation: the paper's table.
        runs: finished runs, each with "row" (a label), "seed", "accuracy" (0 to 1), "parameters"
            and "multiply_adds".
        latencies: of rows by label, in ms; None where nothing was timed.

    Returns: a header and a line for each row that has runs; in the order of the paper.
    """
    columns = [
        ("row", _label),
        ("accuracy, %", lambda row, found: f"{_mean(found):.2f}"),
        ("standard deviation", lambda row, found: _spread(found)),
        ("least to greatest", lambda row, found: _range(found)),
        ("seeds", lambda row, found: str(len(found))),
        ("parameters", lambda row, found: f"{found[0]['parameters'] / 1e6:.2f}M"),
        ("multiply-adds", lambda row, found: f"{found[0]['multiply_adds'] / 1e6:.2f}M"),
    ]
    if latencies:
        columns.append(
            ("latency, ms", lambda row, found: _or_dash(latencies.get(row.label), ".3f"))
        )
    columns += [
        ("paper: top-1, %", lambda row, found: row.note or _or_dash(row.top1, ".1f")),
        ("parameters", lambda row, found: _or_dash(row.parameters, ".1f", "M")),
        ("multiply-adds", lambda row, found: _or_dash(row.multiply_adds, ".0f", "M")),
    ]
    if any(row.latency_ms for row in ablation.rows):
        columns.append(("iPhone 13, ms", lambda row, found: _or_dash(row.latency_ms, ".2f")))
    lines = [
        "| " + " | ".join(name for name, _ in columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
    ]
    for row in ablation.rows:
        found = _runs_of(row, runs)
        if found:
            lines.append("| " + " | ".join(cell(row, found) for _, cell in columns) + " |")
    return "\n".join(lines)


def order_of_rows(ablation: Ablation, runs: Sequence[dict]) -> str:
    """How the rows came out, best first, as one sentence each for here and for the paper.

    Neighbours whose means are nearer to each other than the greater of their standard deviations
    are joined by "~" and not by ">".
    """
    measured = [
        (row.label, _mean(found), statistics.stdev(values) if len(values) > 1 else 0.0)
        for row in ablation.rows
        if (found := _runs_of(row, runs)) and (values := _values(found))
    ]
    published = [(row.label, row.top1, 0.0) for row in ablation.rows if row.top1 is not None]
    sentences = [f"Order here: {_chain(measured)}."]
    if published:
        sentences.append(f"Order in the paper: {_chain(published)}.")
    return " ".join(sentences)


def _chain(rows):
    rows = sorted(rows, key=lambda row: -row[1])
    text = rows[0][0]
    for before, row in zip(rows, rows[1:], strict=False):
        near = abs(before[1] - row[1]) <= max(before[2], row[2])
        text += f" {'~' if near else '>'} {row[0]}"
    return text


def _runs_of(row, runs):
    return [run for run in runs if run["row"] == row.label]


def _values(found):
    return [100 * run["accuracy"] for run in found]


def _label(row, _found):
    return row.label


def _mean(found):
    return statistics.fmean(_values(found))


def _spread(found):
    return f"{statistics.stdev(_values(found)):.2f}" if len(found) > 1 else "-"


def _range(found):
    return f"{min(_values(found)):.2f} to {max(_values(found)):.2f}"


def _or_dash(value, form, unit=""):
    return "-" if value is None else f"{value:{form}}{unit}"
