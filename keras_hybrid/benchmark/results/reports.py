"""Everything that is derived from the rows of a folder: tables, CSV, pictures."""

import importlib.util
from pathlib import Path

from keras_hybrid.benchmark.plan import marked
from keras_hybrid.benchmark.results import (
    cold_start,
    html_report,
    plots,
    profile_report,
    sustained,
    tables,
    verifications,
)
from keras_hybrid.benchmark.rows import Row


def write_reports(
    folder,
    rows: list[Row],
    *,
    metrics: dict[str, dict] | None = None,
    model_paths: dict[str, str] | None = None,
) -> list[Path]:
    """Writes `report.md`, `report.html`, `rows.csv` and the pictures that the rows allow.

    Args:
        rows: e.g. of `read_rows`; several sessions and targets may be mixed.
        metrics: see `plots.read_metrics`; with it latency is drawn against accuracy and
            multiply-adds.
        model_paths: name of the model -> path, for profiles of delegates.

    Returns:
        The files written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = metrics or {}
    rows = marked(rows)
    written = [folder / "report.md", folder / "rows.csv", folder / "report.html"]
    written[2].write_text(html_report.report_page(rows, metrics), encoding="utf-8")
    text = "# Latency\n\n" + tables.rows_as_markdown(rows)
    tables.write_csv(rows, written[1])
    measured = {row.model for row in rows if row.kind == "latency" and row.status == "ok"}
    pictures = []
    can_draw = importlib.util.find_spec("matplotlib") is not None
    if not can_draw:
        text += "\nPictures need matplotlib, which is not installed.\n"
    if measured and can_draw:
        plots.plot_latency(rows, folder / "latency.png", metrics)
        pictures.append("latency.png")
    for metric in plots.METRICS:
        if can_draw and any(metric in metrics.get(model, {}) for model in measured):
            name = f"latency_{metric}.png"
            plots.plot_against(rows, metrics, metric, folder / name)
            pictures.append(name)
    for title, table in (
        ("Verification", verifications.verification_table(rows)),
        ("Cold start", cold_start.cold_start_table(rows)),
    ):
        text += f"\n# {title}\n\n{table}" if table else ""
    curves = sustained.sustained_runs(rows)
    if curves:
        text += "\n# Sustained\n\n" + sustained.sustained_table(curves)
    profiles = profile_report.summarize_profiles(rows, model_paths or {})
    if profiles:
        text += "\n# Profiles\n\n" + profile_report.profiles_as_markdown(profiles)
        if can_draw:
            profile_report.plot_profiles(profiles, folder / "profile.png")
            pictures.append("profile.png")
    text += "".join(f"\n![{name}]({name})\n" for name in pictures)
    written[0].write_text(text, encoding="utf-8")
    return written + [folder / name for name in pictures]
