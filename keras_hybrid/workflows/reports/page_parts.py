"""What the pages of all runs are built of: everything lies inside, nothing is fetched."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np

# Okabe and Ito's colours, told apart with any kind of colour vision; lines differ in dashes, too.
BLUE, ORANGE = "#0072B2", "#D55E00"
THUMBNAIL = 132
MOST_CLASSES_IN_MATRIX = 30

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --blue: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 48px; max-width: 980px; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 10px; }
p, ul { margin: 8px 0; } ul { padding-left: 20px; } li { margin: 4px 0; }
.lead { font-size: 1.15rem; color: var(--soft); margin: 0 0 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.card b { display: block; font-size: 1.35rem; line-height: 1.25; }
.card span { color: var(--soft); font-size: .85rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 16px; }
svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); }
td, th { padding: 5px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
.nowrap td, .nowrap th { white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
@media (max-width: 600px) { table { font-size: .85rem; } td, th { padding: 5px 7px; }
  td:last-child:not(.number) { min-width: 15ch; } }
.matrix { font-size: .85rem; }
.matrix td, .matrix td:last-child { text-align: center; min-width: 34px; border: 1px solid #fff; }
.matrix th { border: 0; max-width: 130px; overflow-wrap: anywhere; }
.matrix thead th { text-align: center; vertical-align: bottom; }
.matrix td.right { outline: 2px solid var(--ink); outline-offset: -2px; }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 12px; }
figure { margin: 0; } figure img { width: 100%; aspect-ratio: 1; object-fit: contain;
  background: #f0f2f4; border-radius: 6px; display: block; }
figcaption { font-size: .82rem; line-height: 1.35; margin-top: 4px; overflow-wrap: anywhere; }
figcaption small { color: var(--soft); display: block; }
figure.strip { margin: 12px 0; } figure.strip img { aspect-ratio: auto; width: auto;
  max-width: 100%; }
.legend span { display: inline-block; margin-right: 14px; } .legend i { display: inline-block;
  width: 1em; height: 1em; border-radius: 3px; margin-right: 6px; vertical-align: -0.1em; }
code { background: #f0f2f4; padding: 1px 5px; border-radius: 4px; font-size: .9em;
  overflow-wrap: anywhere; }
.soft { color: var(--soft); } footer { margin-top: 40px; color: var(--soft); font-size: .85rem; }
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: of the window.
        body: elements, as HTML.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def cards(items: Sequence[tuple[str, str]]) -> str:
    """Figures in boxes: (figure, what it is)."""
    boxes = [f'<div class="card"><b>{text(a)}</b><span>{text(b)}</span></div>' for a, b in items]
    return f'<div class="cards">{"".join(boxes)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence], numbers=(), kind: str = "") -> str:
    """A table that scrolls by itself where it is too wide.

    Args:
        head: names of the columns.
        rows: cells as text.
        numbers: indices of the columns that stand at the right.
        kind: class of the table: "nowrap" for cells of one line.
    """
    right = [' class="number"' if index in numbers else "" for index in range(len(head))]
    titles = "".join(f"<th{a}>{text(cell)}</th>" for a, cell in zip(right, head, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{a}>{text(cell)}</td>" for a, cell in zip(right, row, strict=True))
        + "</tr>"
        for row in rows
    )
    kind = f' class="{kind}"' if kind else ""
    return (
        f'<div class="wide"><table{kind}><thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def curves(history: list[dict], classes: int, images: str = "photos") -> str:
    """Accuracy and loss by epoch, as vector graphics.

    Args:
        history: a row of metrics an epoch; epochs without evaluation are left out.
        classes: how many, for the line of chance.
        images: what they are called.
    """
    history = [row for row in history if "val_accuracy" in row]
    training, validation = f"training {images}", f"validation {images}"
    epochs = [row["epoch"] for row in history]
    accuracy = chart(
        "accuracy, %",
        epochs,
        {
            training: [100 * row["accuracy"] for row in history],
            validation: [100 * row["val_accuracy"] for row in history],
        },
        low=0,
        high=100,
        rule=(100 / classes, "chance"),
    )
    return f'<div class="curves">{accuracy}{loss_chart(history, images)}</div>'


def loss_chart(history: list[dict], images: str = "photos") -> str:
    """The loss of training and of evaluation by epoch.

    Args:
        history: a row of metrics for each epoch that was evaluated.
        images: what they are called.
    """
    losses = {
        f"training {images}": [row["loss"] for row in history],
        f"validation {images}": [row["val_loss"] for row in history],
    }
    # A spike of the first epochs must not flatten what comes after.
    late = [value for values in losses.values() for value in values[len(values) // 4 :]]
    top = max(*late, history[0]["loss"]) * 1.1
    return chart("loss", [row["epoch"] for row in history], losses, low=0, high=top)


def chart(
    title: str,
    epochs: Sequence,
    lines: dict[str, Sequence[float]],
    low: float,
    high: float,
    rule: tuple[float, str] | None = None,
    axis: str = "epoch",
) -> str:
    """Up to two lines over epochs, or something else that is whole numbers, as vector graphics.

    Args:
        title: what the lines are of.
        epochs: where they have values, rising.
        lines: their values by name; not a number where there is none.
        low: end of the scale.
        high: likewise; what is beyond is cut off.
        rule: a value to compare with, and what it is called.
        axis: what the epochs are.
    """
    width, height, left, right, top, bottom = 460, 300, 46, 14, 58, 38

    def x(epoch):
        span = max(1, epochs[-1] - epochs[0])
        return left + (width - left - right) * (epoch - epochs[0]) / span

    def y(value):
        share = (min(high, max(low, value)) - low) / (high - low)
        return height - bottom - (height - top - bottom) * share

    parts = [
        f'<text x="{left}" y="18" font-size="15" font-weight="600" fill="#1b1f24">{title}</text>'
    ]
    for value in _ticks(low, high):
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="#d8dee4"/>'
            f'<text x="{left - 8}" y="{y(value) + 5:.1f}" text-anchor="end">{value:g}</text>'
        )
    for epoch in epoch_ticks(epochs):
        parts.append(
            f'<text x="{x(epoch):.1f}" y="{height - bottom + 18}" text-anchor="middle">'
            f"{epoch}</text>"
        )
    middle = (left + width - right) / 2
    parts.append(f'<text x="{middle}" y="{height - 4}" text-anchor="middle">{axis}</text>')
    if rule:
        value, name = rule
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="#57606a" stroke-dasharray="2 4"/>'
            f'<text x="{width - right}" y="{y(value) - 5:.1f}" text-anchor="end">{name}</text>'
        )
    if any(value > high for values in lines.values() for value in values):
        parts.append(
            f'<text x="{width - right}" y="18" text-anchor="end">higher values are cut off</text>'
        )
    at = left
    for (name, values), colour, dashes in zip(
        lines.items(), (ORANGE, BLUE), ("7 4", ""), strict=False
    ):
        points = " ".join(
            f"{x(epoch):.1f},{y(value):.1f}"
            for epoch, value in zip(epochs, values, strict=True)
            if math.isfinite(value)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" '
            f'stroke-dasharray="{dashes}" stroke-linejoin="round"/>'
            f'<circle cx="{x(epochs[-1]):.1f}" cy="{y(values[-1]):.1f}" r="4" fill="{colour}"/>'
            f'<line x1="{at}" x2="{at + 28}" y1="38" y2="38" stroke="{colour}" stroke-width="2.5" '
            f'stroke-dasharray="{dashes}"/><text x="{at + 34}" y="43">{name}</text>'
        )
        at += 46 + 8 * len(name)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title} by {axis}" '
        f'font-family="inherit" font-size="14" fill="#57606a">{"".join(parts)}</svg>'
    )


def _ticks(low, high):
    """Four to six round numbers."""
    rough = (high - low) / 5
    scale = 10 ** math.floor(math.log10(rough))
    step = next(scale * unit for unit in (1, 2, 2.5, 5, 10) if scale * unit >= rough)
    return [round(step * index, 10) for index in range(math.floor(high / step) + 1)]


def epoch_ticks(epochs):
    """The first and the last epoch, and round ones between that do not crowd them."""
    first, last = epochs[0], epochs[-1]
    step = next(
        unit * 10**power
        for power in range(7)
        for unit in (1, 2, 5)
        if (last - first) / (unit * 10**power) <= 8
    )
    inner = [
        epoch
        for epoch in range(step, last, step)
        if epoch - first >= 0.7 * step and last - epoch >= 0.7 * step
    ]
    return sorted({first, *inner, last})


def confusion(names: Sequence[str], matrix: np.ndarray) -> str:
    """What is taken for what, as a table; of many classes the most frequent mistakes."""
    if len(names) > MOST_CLASSES_IN_MATRIX:
        pairs = [
            (matrix[a, b], names[a], names[b])
            for a, b in zip(*np.nonzero(matrix), strict=True)
            if a != b
        ]
        rows = [(a, b, count) for count, a, b in sorted(pairs, reverse=True)[:20]]
        return table(("is", "taken for", "photos"), rows, numbers=(2,))
    head = "".join(f"<th>{text(name)}</th>" for name in names)
    rows = []
    for label, name in enumerate(names):
        total = max(1, matrix[label].sum())
        cells = "".join(
            _cell(count, count / total, column == label)
            for column, count in enumerate(matrix[label])
        )
        rows.append(f"<tr><th>{text(name)}</th>{cells}</tr>")
    return (
        '<p class="soft">A row for each true class, a column for what the network says; '
        "the frame marks what is right.</p>"
        f'<div class="wide"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(count, share, right):
    """A count on blue that is the darker, the greater its share of the row."""
    mixed = [round(255 + share * (own - 255)) for own in (0, 90, 150)]
    colour = f"rgb({mixed[0]},{mixed[1]},{mixed[2]})"
    ink = "#fff" if share > 0.5 else "#1b1f24" if count else "#9aa4ae"
    kind = ' class="right"' if right else ""
    return f'<td{kind} style="background:{colour};color:{ink}">{count}</td>'


def picture(image: np.ndarray) -> str:
    """An image, as an address that holds it."""
    from PIL import Image

    shown = Image.fromarray(np.clip(image, 0, 255).astype("uint8"))
    shown.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
    content = io.BytesIO()
    shown.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def figure(source: str, caption: str, small: str) -> str:
    """A photo with what is said of it.

    Args:
        source: of `picture`; "" for a photo that is not there any more.
        caption: as HTML.
        small: the photo's name.
    """
    name = text(small)
    return (
        f'<figure><img src="{source}" alt="{name}"><figcaption>{caption}<small>{name}</small>'
        "</figcaption></figure>"
    )


def marked(line: str) -> str:
    """A line with `code` in it."""
    parts = text(line).split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
    )


def photos(figures: Sequence[str], total: int) -> str:
    """Several of `figure`, and how many more there are."""
    more = total - len(figures)
    note = f'<p class="soft">and {more} more</p>' if more > 0 else ""
    return f'<div class="photos">{"".join(figures)}</div>{note}'


def duration(seconds: float) -> str:
    """In seconds or in minutes."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def text(value) -> str:
    """Anything as text of a page."""
    return html.escape(str(value))
