"""Where the time of a model goes: by part of the model and by kind of operator."""

import dataclasses
import importlib.util
from collections.abc import Iterable

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.results import graph, parts, statistics
from keras_hybrid.benchmark.results.comparison import escape
from keras_hybrid.benchmark.results.plots import DPI, SERIES_COLORS
from keras_hybrid.benchmark.results.tables import device_label, plural
from keras_hybrid.benchmark.rows import Row
from keras_hybrid.layer_names import PARTS

_ORDER = (*PARTS, parts.RUNTIME, graph.UNKNOWN)


@dataclasses.dataclass(frozen=True)
class ProfileSummary:
    """Milliseconds of one inference under the profiler, medians over repetitions.

    Args:
        by_part: part of the model -> ms.
        by_kind: kind of operator -> ms.
        by_layer: layer -> ms; operators whose layer is not known stand under their own name.
    """

    title: str
    by_part: dict[str, float]
    by_kind: dict[str, float]
    by_layer: dict[str, float]
    rows: int

    @property
    def total_ms(self) -> float:
        return sum(self.by_part.values())


def summarize_profiles(rows: Iterable[Row], model_paths: dict[str, str]) -> list[ProfileSummary]:
    """One summary for each configuration with an "ok" profile.

    Args:
        model_paths: name of the model -> path, to read the order of its operators (which needs
            ai-edge-litert; without it, operators of delegates are attributed to no part).
    """
    can_read = importlib.util.find_spec("ai_edge_litert") is not None
    groups = {}
    for row in latest(rows):
        if row.kind == "profile" and row.status == "ok" and row.profile:
            groups.setdefault(row.measurement, []).append(row)
    summaries = []
    for _, group in sorted(groups.items()):
        row = group[0]
        path = model_paths.get(row.model)
        nodes = graph.read_graph(path) if path and can_read else []
        totals = [_totals(row, nodes) for row in group]
        threads = plural(row.num_threads, "thread")
        summaries.append(
            ProfileSummary(
                f"{row.model}, {device_label(row)}, {row.delegate}, {threads}",
                *(_medians([total[number] for total in totals]) for number in range(3)),
                rows=len(group),
            )
        )
    return summaries


def _totals(row, nodes):
    by_part, by_kind, by_layer = {}, {}, {}
    found = parts.attribute(row.profile, nodes)
    for operator, part in zip(row.profile, found, strict=True):
        kind = parts.family(operator["kind"]) or operator["kind"]
        layer = None if parts.is_delegated(operator) else graph.layer_name(operator["name"])
        layer = layer or operator["name"]
        for totals, key in ((by_part, part), (by_kind, kind), (by_layer, layer)):
            totals[key] = totals.get(key, 0.0) + operator["ms"]
    return by_part, by_kind, by_layer


def _medians(totals):
    names = list(dict.fromkeys(name for total in totals for name in total))
    return {name: statistics.median([total.get(name, 0.0) for total in totals]) for name in names}


def _ordered_parts(by_part):
    return sorted(by_part, key=lambda p: _ORDER.index(p) if p in _ORDER else len(_ORDER))


def profiles_as_markdown(summaries: list[ProfileSummary], most_layers: int = 20) -> str:
    """Tables by part, kind and (the slowest) layers."""
    lines = []
    for item in summaries:
        total = item.total_ms or 1.0
        lines += [f"## {escape(item.title)}", ""]
        lines += [f"{item.total_ms:.3f} ms under the profiler, {plural(item.rows, 'row')}", ""]
        slowest = sorted(item.by_layer, key=lambda name: -item.by_layer[name])[:most_layers]
        for heading, values, names in (
            ("part", item.by_part, _ordered_parts(item.by_part)),
            ("kind", item.by_kind, sorted(item.by_kind, key=lambda k: -item.by_kind[k])),
            ("layer", item.by_layer, slowest),
        ):
            lines += [f"| {heading} | ms | share |", "| --- | ---: | ---: |"]
            lines += [
                f"| {escape(name)} | {values[name]:.3f} | {values[name] / total:.1%} |"
                for name in names
            ]
            lines.append("")
    return "\n".join(lines)


def plot_profiles(summaries: list[ProfileSummary], path) -> None:
    """Draws one bar for each configuration, cut into the parts of the model.

    Raises:
        ValueError: if there is no profile.
    """
    if not summaries:
        raise ValueError("There is no profile to draw: no profile row has the status 'ok'")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = _ordered_parts({part: 0 for item in summaries for part in item.by_part})
    greys = {parts.RUNTIME: "#bbbbbb", graph.UNKNOWN: "#eeeeee"}
    palette = {
        part: greys.get(part, SERIES_COLORS[number % len(SERIES_COLORS)])
        for number, part in enumerate(names)
    }
    figure, axis = pyplot.subplots(figsize=(10, 2.2 + 0.75 * len(summaries)), dpi=DPI)
    widest = max(item.total_ms for item in summaries)
    for place, item in enumerate(reversed(summaries)):
        left = 0.0
        for part in names:
            time = item.by_part.get(part, 0.0)
            axis.barh(place, time, left=left, color=palette[part], edgecolor="white", height=0.55)
            if time > 0.075 * widest:
                dark = palette[part] in (
                    SERIES_COLORS[0],
                    SERIES_COLORS[1],
                    SERIES_COLORS[2],
                    SERIES_COLORS[6],
                )
                axis.text(
                    left + time / 2,
                    place,
                    f"{time:.3g} ms\n{time / item.total_ms:.0%}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
            left += time
    titles = [item.title.replace("$", r"\$").replace(", ", "\n", 1) for item in summaries]
    axis.set_yticks(range(len(summaries)), titles[::-1], fontsize=8)
    axis.set_xlabel("ms of one inference, under the profiler")
    axis.spines[["top", "right"]].set_visible(False)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=palette[part]) for part in names]
    axis.legend(
        handles, names, fontsize=8, ncols=6, loc="lower left", bbox_to_anchor=(0, 1), frameon=False
    )
    figure.tight_layout()
    figure.savefig(path, dpi=DPI, facecolor="white")
    pyplot.close(figure)
