"""Pictures of results: latency against accuracy or multiply-adds, and latency alone."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.results.tables import describe_conditions, device_label, plural
from keras_hybrid.benchmark.rows import Row

# Okabe and Ito's colours, told apart with every kind of colour vision; each with its own marker.
SERIES_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 200  # twice the common 100
METRICS = {
    "accuracy": ("top-1 accuracy (%)", 1.0),
    "multiply_adds": ("multiply-adds (millions)", 1e-6),
}
_LOGARITHMIC_FROM = 8.0  # ratio of the largest to the smallest value of an axis
_FIELDS = {"label", "family", *METRICS}


def read_metrics(path) -> dict[str, dict]:
    """Reads what rows do not know about models.

    Args:
        path: JSON, file name of the model -> {"label", "family", "accuracy" in per cent,
            "multiply_adds"}, all optional.

    Raises:
        ValueError: if it is not of this form.
    """
    try:
        metrics = json.loads(Path(path).read_text(encoding="utf-8"))
        broken = [
            name
            for name, entry in metrics.items()
            if set(entry) - _FIELDS
            or not all(isinstance(entry.get(key, 0), (int, float)) for key in METRICS)
        ]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"The file of metrics cannot be read. Received: {path}: {error}"
        ) from error
    if broken:
        raise ValueError(
            f"Entries of the file of metrics may hold {sorted(_FIELDS)}, numbers where numbers are "
            f"meant. Received: {path}: {broken}"
        )
    return metrics


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats: less latency and more of the metric.

    Args:
        points: (latency, metric).

    Returns:
        Indices ordered by latency.
    """
    front, best = [], float("-inf")
    order = sorted(range(len(points)), key=lambda n: (points[n][0], -points[n][1]))
    for index in order:
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front


def _times(rows: Iterable[Row]):
    """{(device, program, delegate, threads, conditions): {model: [median of each "ok" row]}}"""
    panels = {}
    rows = latest(rows)
    conditions = describe_conditions(rows)
    for row in rows:
        if row.kind == "latency" and row.status == "ok" and row.central_ms:
            told = conditions[row.measurement]
            key = (device_label(row), row.program, row.delegate, row.num_threads, told)
            panels.setdefault(key, {}).setdefault(row.model, []).append(row.central_ms)
    return dict(sorted(panels.items()))


def _title(panel):
    device, program, delegate, threads, conditions = panel
    told = f"\n{_shorten(conditions, 60)}" if conditions else ""
    return f"{device}\n{program}, {delegate}, {plural(threads, 'thread')}{told}"


def _figure(count, height=4.8):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 2 if count == 4 else min(3, count)
    lines = -(-count // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(5.8 * columns, height * lines), squeeze=False, dpi=DPI
    )
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, list(axes.flat)[:count]


def _save(figure, path):
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, dpi=DPI, facecolor="white")
    pyplot.close(figure)


def plot_against(rows: Iterable[Row], metrics: dict[str, dict], metric: str, path) -> None:
    """Draws latency against `metric`, one panel for each device, delegate and thread count.

    Bars span the medians of the repetitions; the line joins the models that no other beats.

    Raises:
        ValueError: if no measured model has the metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {sorted(METRICS)}. Received: metric={metric!r}")
    label, scale = METRICS[metric]
    panels = {}
    for key, models in _times(rows).items():
        known = {m: t for m, t in models.items() if metric in metrics.get(m, {})}
        if known:
            panels[key] = known
    if not panels:
        raise ValueError(f"No measured model has the metric {metric!r} in the file of metrics")
    families = sorted({metrics[m].get("family", "") for models in panels.values() for m in models})
    figure, axes = _figure(len(panels))
    for axis, (key, models) in zip(axes, panels.items(), strict=True):
        names = sorted(models)
        points = [(statistics.median(models[m]), metrics[m][metric] * scale) for m in names]
        front = pareto_front(points)
        axis.step(
            [points[n][0] for n in front],
            [points[n][1] for n in front],
            where="post",
            color="#555555",
            linewidth=1.2,
            linestyle="--",
            label="Pareto front",
            zorder=1,
        )
        for number, family in enumerate(families):
            own = [n for n, m in enumerate(names) if metrics[m].get("family", "") == family]
            if not own:
                continue
            low = [points[n][0] - min(models[names[n]]) for n in own]
            high = [max(models[names[n]]) - points[n][0] for n in own]
            axis.errorbar(
                [points[n][0] for n in own],
                [points[n][1] for n in own],
                xerr=[low, high],
                fmt=MARKERS[number % len(MARKERS)],
                color=SERIES_COLORS[number % len(SERIES_COLORS)],
                markersize=7,
                capsize=3,
                label=family or None,
                zorder=2,
            )
        axis.set_title(_title(key), fontsize=10, loc="left")
        axis.set_xlabel("latency (ms), median of processes")
        axis.set_ylabel(label)
        for number, scale_of in enumerate((axis.set_xscale, axis.set_yscale)):
            values = [point[number] for point in points]
            if max(values) > _LOGARITHMIC_FROM * min(values) > 0:
                scale_of("log")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter(_plain)
            side.set_minor_formatter(_plain_between)
        axis.margins(0.14)
        texts = [metrics[m].get("label", m) for m in names]
        _place_labels(figure, axis, points, texts)
        axis.legend(fontsize=8, loc="lower right", framealpha=0.9)
    _save(figure, path)


def _plain(value, _position):
    return f"{value:g}"


def _plain_between(value, _position):
    """Labels the ticks 2, 3 and 5 between powers of ten: more would touch each other."""
    return f"{value:g}" if f"{value:e}"[0] in "235" else ""


def _place_labels(figure, axis, points, texts):
    """Writes each text beside its point where it covers no other text or point."""
    from matplotlib import patheffects

    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    taken = []
    for x, y in points:
        column, row = axis.transData.transform((x, y))
        taken.append((column - 9, row - 9, column + 9, row + 9))
    offsets = [
        (dx, dy, side)
        for distance in (8, 18, 30)
        for dx, dy, side in (
            (distance, 3, "left"),
            (-distance, 3, "right"),
            (distance, -distance, "left"),
            (-distance, distance, "right"),
            (0, distance, "center"),
            (0, -distance - 6, "center"),
        )
    ]
    frame = axis.get_window_extent(renderer)
    for (x, y), text in zip(points, texts, strict=True):
        for dx, dy, side in offsets:
            note = axis.annotate(
                text.replace("$", r"\$"),
                (x, y),
                (dx, dy),
                textcoords="offset points",
                fontsize=8,
                ha=side,
                path_effects=[patheffects.withStroke(linewidth=2.5, foreground="white")],
            )
            box = note.get_window_extent(renderer)
            edges = (box.x0, box.y0, box.x1, box.y1)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0
            free = all(
                edges[2] < t[0] or edges[0] > t[2] or edges[3] < t[1] or edges[1] > t[3]
                for t in taken
            )
            if (inside and free) or (dx, dy, side) == offsets[-1]:
                taken.append(edges)
                break
            note.remove()


def plot_latency(rows: Iterable[Row], path, metrics: dict[str, dict] | None = None) -> None:
    """Draws the latency of every model, one panel for each device, delegate and thread count.

    Raises:
        ValueError: if there is no measurement.
    """
    panels = _times(rows)
    if not panels:
        raise ValueError("There is no measurement to draw: no row has the status 'ok'")
    most = max(len(models) for models in panels.values())
    figure, axes = _figure(len(panels), height=1.4 + 0.36 * most)
    for axis, (key, models) in zip(axes, panels.items(), strict=True):
        names = sorted(models, key=lambda m: -statistics.median(models[m]))
        medians = [statistics.median(models[m]) for m in names]
        axis.barh(range(len(names)), medians, color=SERIES_COLORS[0], height=0.6)
        for place, name in enumerate(names):
            axis.plot(models[name], [place] * len(models[name]), "o", color="#000000", markersize=3)
            axis.annotate(
                f"{medians[place]:.3g}",
                (max(models[name]), place),
                (6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        labels = [(metrics or {}).get(m, {}).get("label", m) for m in names]
        axis.set_yticks(range(len(names)), [_shorten(text) for text in labels], fontsize=8)
        axis.set_xlim(0, 1.15 * max(max(times) for times in models.values()))
        axis.set_xlabel("latency (ms), dots: processes")
        axis.set_title(_title(key), fontsize=10, loc="left")
    _save(figure, path)


def _shorten(text, length=28):
    text = text.replace("$", r"\$").replace("\n", " ")
    return text if len(text) <= length else text[: length - 3] + "..."
