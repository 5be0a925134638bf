"""What verifications found, as a table: how far each delegate's outputs are from this machine's."""

from collections.abc import Iterable

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.results.comparison import escape
from keras_hybrid.benchmark.results.tables import device_label, plural
from keras_hybrid.benchmark.rows import VERIFICATION, Row


def verification_table(rows: Iterable[Row]) -> str:
    """A line for each verification, wrong, right or not done; empty without any."""
    found = [row for row in latest(rows) if row.kind == VERIFICATION]
    if not found:
        return ""
    lines = [
        "| device | program | model | delegate | images | dB | worst image, dB | same class "
        "| verdict | why |",
        "|" + " --- |" * 10,
    ]
    for row in sorted(found, key=lambda row: row.measurement):
        seen = row.agreement
        decibels, worst = (
            "" if seen.get(name) is None else f"{seen[name]:.1f}"
            for name in ("decibels", "worst_decibels")
        )
        same = "" if seen.get("agreeing") is None else f"{seen['agreeing']} of {seen['images']}"
        model = f"{row.model} {row.variant}".rstrip()
        why = "" if row.status == "ok" else "; ".join(row.notes[:2])
        lines.append(
            f"| {escape(device_label(row))} | {escape(row.program)} | {escape(model)} | "
            f"{escape(row.delegate)}, {plural(row.num_threads, 'thread')} | "
            f"{seen.get('images', 0)} | {decibels} | {worst} | {same} | {escape(row.status)} | "
            f"{escape(why)} |"
        )
    lines += [
        "",
        "dB: how images differ in this machine's values, by LiteRT's own kernels, over the "
        "differences between the two.",
    ]
    return "\n".join(lines) + "\n"
