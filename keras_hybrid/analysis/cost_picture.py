"""A picture of where a network's parameters and multiply-adds are."""

from keras_hybrid.analysis.figures import SERIES_COLORS, new_figure, save


def plot_cost(summary, path=None):
    """Draws the shares of parameters and multiply-adds of a `CostSummary`, by part and by stage.

    Args:
        summary: of `summarize_cost`.
        path: of a PNG to write; None to write none.

    Returns: the Matplotlib figure.
    """
    groups = [("part", summary.by_part), ("stage", summary.by_stage)]
    heights = [len(costs) + 1.2 for _, costs in groups]
    figure = new_figure((8, 1.0 + 0.42 * sum(heights)))
    rows, columns = summary.input_size
    figure.suptitle(
        f"{summary.model}: {summary.parameters / 1e6:.2f}M parameters, "
        f"{summary.multiply_adds / 1e6:.1f}M multiply-adds at {rows} x {columns} px"
    )
    both = figure.subplots(2, 1, height_ratios=heights, sharex=True)
    for axes, (name, costs) in zip(both, groups, strict=True):
        _bars(axes, summary, name, costs)
    both[0].set_xlim(0, 1.22 * max(bar.get_width() for axes in both for bar in axes.patches))
    both[1].set_xlabel("share of the whole, %")
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return save(figure, path)


def _bars(axes, summary, name, costs):
    """Two bars for each group, the first group on top."""
    measures = (
        ("parameters", summary.parameters, SERIES_COLORS[0], -0.19),
        ("multiply_adds", summary.multiply_adds, SERIES_COLORS[1], 0.19),
    )
    for field, whole, color, offset in measures:
        values = [getattr(cost, field) for cost in costs]
        shares = [100 * value / max(whole, 1) for value in values]
        places = [place + offset for place in range(len(costs))]
        label = field.replace("_", "-")
        axes.barh(places, shares, height=0.36, color=color, label=label)
        for place, share, value in zip(places, shares, values, strict=True):
            axes.annotate(
                f"{_short(value)}, {share:.1f} %",
                (share, place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    axes.set_yticks(range(len(costs)), [cost.name for cost in costs])
    axes.set_ylim(len(costs) - 0.4, -0.6)
    axes.set_title(f"by {name}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _short(value):
    """1234567 -> "1.23M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)
