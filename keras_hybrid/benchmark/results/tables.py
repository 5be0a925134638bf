"""Rows as a table: one line for each configuration, and every row that is no measurement."""

import csv
import dataclasses
from collections.abc import Iterable

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.results.comparison import escape
from keras_hybrid.benchmark.rows import STATUSES, Row


@dataclasses.dataclass(frozen=True)
class CellSummary:
    """The repetitions of one configuration. Times are medians over its "ok" rows.

    Args:
        conditions: how it differs from other measurements of the same configuration.
        interval: of the typical time, 95%, over the processes; None for a single one.
        spread: half the range of the rows' medians, relative to their median.
        memory_growth_mb: from the start of the program to its end.
        peak_memory_mb: the most that the whole process held.
        energy_mj: of one inference of the whole device.
        clock_ghz: of the core that was clocked highest during the runs.
        delegated: e.g. "642 of 685 ops, 19 partitions".
        others: rows that are no measurement, by status.
    """

    device: str
    program: str
    model: str
    num_threads: int
    delegate: str
    conditions: str
    rows: int
    median_ms: float | None
    mean_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    std_ms: float | None
    interval: str
    spread: float | None
    init_ms: float | None
    first_ms: float | None
    memory_growth_mb: float | None
    peak_memory_mb: float | None
    energy_mj: float | None
    clock_ghz: float | None
    delegated: str
    others: str


def device_label(row: Row) -> str:
    """The phone's model with its serial, or "host"."""
    model = row.device.get("model")
    label = row.device_id if model in (None, row.device_id) else f"{model} ({row.device_id})"
    return f"{label}, emulator" if row.device.get("emulator") else label


def summarize(rows: Iterable[Row]) -> list[CellSummary]:
    """One summary for each measurement of latency rows; none is left out."""
    groups = {}
    for row in latest(rows):
        if row.kind == "latency":
            groups.setdefault(row.measurement, []).append(row)
    told = describe_conditions(row for group in groups.values() for row in group)
    return [_summarize(groups[key], told[key]) for key in sorted(groups)]


def describe_conditions(rows: Iterable[Row]) -> dict[tuple, str]:
    """In words, how each measurement of `rows` differs from others of the same configuration."""
    measurements = {row.measurement: row for row in rows}
    families: dict[tuple, list[tuple]] = {}
    for key, row in measurements.items():
        families.setdefault(row.configuration, []).append(key)
    told = {}
    for keys in families.values():
        facts = {key: _facts(measurements[key]) for key in keys}
        common = set.intersection(*map(set, facts.values()))
        for key in keys:
            told[key] = ", ".join(fact for fact in facts[key] if fact not in common)
    return told


def _facts(row):
    checksum, version, system, flags, mask = row.conditions
    return [
        f"file {row.model_sha256[:8]}",
        f"binary {checksum[:8] or version}",
        f"system {system}",
        f"cores {mask or 'any'}",
        *([f"variant {row.variant}"] if row.variant else []),
        *flags,
    ]


def _interval(times):
    if len(times) < 2:
        return ""
    _, low, high = statistics.typical_interval(times)
    return f"{low:.3f} to {high:.3f}"


def _summarize(rows, conditions):
    good = [row for row in rows if row.status == "ok"]

    def middle(name):
        values = [getattr(row, name) for row in good if getattr(row, name) is not None]
        return statistics.median(values) if values else None

    central = [row.central_ms for row in good if row.central_ms]
    clocks = [ghz for ghz in map(clock_ghz, good) if ghz is not None]
    counts = {s: sum(row.status == s for row in rows) for s in STATUSES if s != "ok"}
    return CellSummary(
        device=device_label(rows[0]),
        program=rows[0].program,
        model=rows[0].model,
        num_threads=rows[0].num_threads,
        delegate=rows[0].delegate,
        conditions=conditions,
        rows=len(good),
        median_ms=middle("median_ms"),
        mean_ms=middle("mean_ms"),
        p90_ms=middle("p90_ms"),
        p95_ms=middle("p95_ms"),
        std_ms=middle("std_ms"),
        interval=_interval(central),
        spread=statistics.relative_spread(central) if central else None,
        init_ms=middle("init_ms"),
        first_ms=middle("first_ms"),
        memory_growth_mb=middle("overall_memory_mb"),
        peak_memory_mb=middle("peak_memory_mb"),
        energy_mj=middle("energy_mj"),
        clock_ghz=statistics.median(clocks) if clocks else None,
        delegated=next((text for text in map(_delegated, good) if text), ""),
        others=", ".join(f"{count} {status}" for status, count in counts.items() if count),
    )


def clock_ghz(row: Row) -> float | None:
    """The typical clock of the core that was clocked highest during a run, None if unknown."""
    middles = [middle for _, middle, _ in row.during.get("clock_khz", {}).values()]
    return max(middles) / 1e6 if middles else None


def _delegated(row):
    if row.delegated_nodes is None:
        return ""
    text = f"{row.delegated_nodes}"
    text += f" of {row.total_nodes} ops" if row.total_nodes is not None else " ops"
    if row.partitions is not None:
        return f"{text}, {plural(row.partitions, 'partition')}"
    return f"{text}, {plural(row.delegate_kernels, 'kernel')}" if row.delegate_kernels else text


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_COLUMNS = (
    ("device", "device", "{}"),
    ("program", "program", "{}"),
    ("model", "model", "{}"),
    ("threads", "num_threads", "{}"),
    ("delegate", "delegate", "{}"),
    ("conditions", "conditions", "{}"),
    ("rows", "rows", "{}"),
    ("median ms", "median_ms", "{:.3f}"),
    ("95% interval", "interval", "{}"),
    ("mean ms", "mean_ms", "{:.3f}"),
    ("p90 ms", "p90_ms", "{:.3f}"),
    ("p95 ms", "p95_ms", "{:.3f}"),
    ("std ms", "std_ms", "{:.3f}"),
    ("spread", "spread", "{:.1%}"),
    ("init ms", "init_ms", "{:.1f}"),
    ("first ms", "first_ms", "{:.3f}"),
    ("growth MB", "memory_growth_mb", "{:.1f}"),
    ("process' peak MB", "peak_memory_mb", "{:.1f}"),
    ("mJ", "energy_mj", "{:.3f}"),
    ("GHz", "clock_ghz", "{:.2f}"),
    ("delegated", "delegated", "{}"),
    ("other rows", "others", "{}"),
)


def rows_as_markdown(rows: list[Row]) -> str:
    """The table, where the numbers come from, and the rows that are none."""
    rows = latest(rows)
    lines = [
        "| " + " | ".join(title for title, _, _ in _COLUMNS) + " |",
        "|" + "|".join(" --- " for _ in _COLUMNS) + "|",
    ]
    for cell in summarize(rows):
        values = [(getattr(cell, name), form) for _, name, form in _COLUMNS]
        words = [
            "" if v is None else escape(v) if isinstance(v, str) else form.format(v)
            for v, form in values
        ]
        lines.append("| " + " | ".join(words) + " |")
    lines += [
        "",
        "Times: median over the rows, each a process; interval: where their typical time lies; "
        "spread: half the range of their medians. Growth: memory from the program's start to its "
        "end; the process' peak holds the program, too. mJ: of one inference, of the whole device "
        "or the rails that its rows name; blank where it does not tell. GHz: the highest core's "
        "typical clock while the program ran.",
        "",
    ]
    lines += ["## Devices and programs", ""]
    lines += sorted({f"- {escape(_provenance(row))}" for row in rows})
    flawed = [row for row in rows if row.status != "ok" or row.notes]
    if flawed:
        lines += ["", "## Notes on single rows", ""]
        for row in flawed:
            reasons = "; ".join(row.notes) or "no note"
            threads = plural(row.num_threads, "thread")
            lines.append(
                f"- {escape(device_label(row))}, {escape(row.model)}, {threads}, "
                f"{row.delegate}, #{row.repetition}: **{row.status}**: {escape(reasons)}"
            )
    return "\n".join(lines) + "\n"


def _provenance(row):
    device, binary = row.device, row.binary
    parts = [
        device_label(row),
        device.get("soc"),
        f"Android {device['android']}" if device.get("android") else device.get("system"),
        device.get("fingerprint"),
        f"{binary.get('name')} {binary.get('flavour')} {binary.get('version') or ''}".strip(),
        f"sha256 {binary['sha256'][:16]}" if binary.get("sha256") else None,
        f"commit {row.git_commit}" if row.git_commit else None,
        row.started[:10],
    ]
    return ", ".join(part for part in parts if part)


def write_csv(rows: list[Row], path) -> None:
    """One line for each row, measured or not; nested fields as `device.model`."""
    records = []
    for row in latest(rows):
        record = {}
        for name, value in row.as_dict().items():
            if name in ("profile", "state_before", "state_after", "initialization"):
                continue
            if isinstance(value, dict):
                record |= {f"{name}.{key}": item for key, item in value.items()}
            else:
                record[name] = "; ".join(map(str, value)) if isinstance(value, list) else value
        for moment in ("state_before", "state_after"):
            state = getattr(row, moment)
            for key in ("thermal_status", "battery_c", "battery_level", "skin_c", "load"):
                record[f"{moment}.{key}"] = state.get(key)
        records.append(record)
    names = list(dict.fromkeys(name for record in records for name in record))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(records)
