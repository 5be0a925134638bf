"""What came of a run of detection or Mask R-CNN: `report.md`, and `report.html` with pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.analysis.detection_mistakes import Comparison, compare
from keras_hybrid.files import write_text
from keras_hybrid.tasks.detection.average_precision import AveragePrecision
from keras_hybrid.tasks.instances.detect import detect
from keras_hybrid.training.data.detection.detection_pipeline import evaluation_pictures
from keras_hybrid.training.data.detection.detection_source import DetectionSource
from keras_hybrid.training.detection_evaluation import DetectionEvaluation, evaluate_detection
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.version import __version__
from keras_hybrid.workflows.reports.page_parts import (
    BLUE,
    ORANGE,
    cards,
    chart,
    document,
    figure,
    loss_chart,
    photos,
    picture,
    table,
    text,
)

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
SCORE_THRESHOLD = 0.3  # of what counts as said, in pictures and counts
WORST, OTHERS = 12, 6
CURVES = 12  # classes whose curves are drawn
WHITE = "#ffffff"
SHOWN_SIDE = 256  # pixels of a picture's longer side on the page
VEIL = 0.45  # how much of a picture a mask hides
MEASURES = (
    ("AP", "ap", "mean over overlaps of 0.5 to 0.95"),
    ("AP50", "ap50", "at an overlap of 0.5"),
    ("AP75", "ap75", "at 0.75"),
    ("small", "small", "AP of objects up to 32 x 32 px"),
    ("medium", "medium", "up to 96 x 96 px"),
    ("large", "large", "larger ones"),
    ("recall", "recall", "objects found, 100 detections an image"),
)


@dataclass(frozen=True)
class DetectionReport:
    """A run's numbers, as both files show them.

    Attributes:
        path: of the page.
        headline: the result in one line.
        split: that was evaluated.
        evaluation: of it.
        agnostic: average precision where a box is right whatever its class.
        comparisons: of the images, in their order.
    """

    path: Path
    headline: str
    split: str
    evaluation: DetectionEvaluation
    agnostic: AveragePrecision
    comparisons: tuple[Comparison, ...]

    def by_mistakes(self) -> list[int]:
        """Places of the images, those with the most misses and false alarms first."""
        counts = [len(each.missed) + len(each.false_alarms) for each in self.comparisons]
        return sorted(range(len(counts)), key=lambda place: -counts[place])


def write_detection_report(
    run: Run, source: DetectionSource, split: str | None = None
) -> DetectionReport:
    """Evaluates a run and writes `report.md` and `report.html` into its folder.

    Args:
        run: finished.
        source: of its data.
        split: to evaluate; None for the evaluation split.
    """
    split = split or source.evaluation_split
    found = evaluate_detection(run.model, source, run.recipe, split)
    agnostic = found.class_agnostic()
    headline = (
        f"AP {_share(found.precision.ap)}, AP50 {_share(found.precision.ap50)} of "
        f"{len(run.class_names)} classes on {len(found.objects)} {split} images; blind to classes "
        f"AP {_share(agnostic.ap)}, AP50 {_share(agnostic.ap50)}"
    )
    if found.mask_precision is not None:
        masks = found.mask_precision
        headline = f"masks AP {_share(masks.ap)}, AP50 {_share(masks.ap50)}; boxes {headline}"
    comparisons = tuple(
        compare(detections, objects, SCORE_THRESHOLD)
        for detections, objects in zip(found.detections, found.objects, strict=True)
    )
    report = DetectionReport(run.folder / PAGE_FILE, headline, split, found, agnostic, comparisons)
    order = report.by_mistakes()
    rest = order[WORST:]
    others = [rest[round(place)] for place in np.linspace(0, len(rest) - 1, min(OTHERS, len(rest)))]
    drawn = _pictures(report, run, source, {*order[:WORST], *others})
    write_text(report.path, _page(report, run, source, order[:WORST], others, drawn))
    write_text(run.folder / REPORT_FILE, markdown(report, run, source))
    return report


def measures(report: DetectionReport) -> list[tuple[str, AveragePrecision]]:
    """The columns of figures, with their titles."""
    masks = report.evaluation.mask_precision
    return [
        *([] if masks is None else [("masks", masks)]),
        ("boxes", report.evaluation.precision),
        ("boxes, blind to classes", report.agnostic),
    ]


def measure_rows(report: DetectionReport) -> list[tuple[str, ...]]:
    """Name, a figure for each of `measures`, and what it is."""
    columns = [precision for _, precision in measures(report)]
    return [
        (name, *(_share(getattr(precision, key)) for precision in columns), what)
        for name, key, what in MEASURES
    ]


def class_rows(report: DetectionReport, run: Run) -> list[tuple[str, ...]]:
    """As `class_head` says; found, missed and false alarms are those at a score of 0.3."""
    classes = len(run.class_names)
    counts = np.zeros((4, classes), int)  # objects, right, missed, false alarms
    found = report.evaluation
    for detections, objects, each in zip(
        found.detections, found.objects, report.comparisons, strict=True
    ):
        for row, labels in enumerate(
            (
                objects.labels[~objects.crowd],
                detections.labels[each.right],
                objects.labels[each.missed],
                detections.labels[each.false_alarms],
            )
        ):
            counts[row] += np.bincount(labels, minlength=classes)
    figures = [found.precision.by_class, found.precision.precision.mean(axis=0)]
    if found.mask_precision is not None:
        figures.insert(0, found.mask_precision.by_class)
    return [
        (name, *map(_share, shares), *map(str, column))
        for name, shares, column in zip(
            run.class_names, zip(*figures, strict=True), counts.T, strict=True
        )
    ]


def class_head(report: DetectionReport) -> tuple[str, ...]:
    """Names of the columns of `class_rows`."""
    masks = () if report.evaluation.mask_precision is None else ("mask AP",)
    return ("class", *masks, "AP", "AP50", "objects", "found", "missed", "false alarms")


def markdown(report: DetectionReport, run: Run, source: DetectionSource) -> str:
    """The report for a terminal or a repository."""
    lines = [f"# {_title(run)}", "", f"**{report.headline}**", ""]
    lines += _rows(("", *(title for title, _ in measures(report)), ""), measure_rows(report))
    lines += [
        "",
        f"Found, missed and false alarms are counted at a score of {SCORE_THRESHOLD}.",
        "",
    ]
    lines += _rows(class_head(report), class_rows(report, run))
    lines += ["", "Images with the most mistakes, by their place in the split:", ""]
    lines += [
        f"- {place}: {_mistakes(report.comparisons[place])}"
        for place in report.by_mistakes()[:WORST]
    ]
    if source.notes:
        lines += ["", "What was left out or changed:", "", *(f"- {note}" for note in source.notes)]
    return "\n".join(lines) + "\n"


def _rows(head: Sequence[str], rows):
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [lines[0], f"|{' --- |' * len(head)}", *lines[1:]]


def _title(run):
    return f"{run.recipe.head} on {run.recipe.model}, {Path(run.data).name}"


def _share(value):
    return "" if math.isnan(value) else f"{value:.1%}"


def _mistakes(comparison):
    wrong = len(comparison.false_alarms)
    return (
        f"{int(comparison.right.sum())} right, {len(comparison.missed)} missed, "
        f"{wrong} false alarm{'' if wrong == 1 else 's'}"
    )


def _page(report, run, source, worst, others, drawn):
    found = report.evaluation
    objects = sum(int((~each.crowd).sum()) for each in found.objects)
    body = [
        f"<h1>{text(_title(run))}</h1>",
        f'<p class="lead">{text(report.headline)}</p>',
        cards(
            [
                *(
                    []
                    if found.mask_precision is None
                    else [(_share(found.mask_precision.ap), "average precision of masks")]
                ),
                (_share(found.precision.ap), "average precision"),
                (_share(found.precision.ap50), "at an overlap of 0.5"),
                (f"{objects:,}", f"objects in {len(found.objects):,} {report.split} images"),
                (f"{source.sizes['train']:,}", "training images"),
                (f"{run.recipe.resolution} px", "of a training batch, height and width"),
                (f"{len(run.history)}", "epochs"),
            ]
        ),
        "<h2>How training went</h2>",
        _curves(run.history),
        "<h2>Average precision</h2>",
        table(
            ("", *(title for title, _ in measures(report)), ""),
            measure_rows(report),
            numbers=range(1, 1 + len(measures(report))),
        ),
        "<h2>Precision by recall</h2>",
        '<p class="soft">At an overlap of 0.5: of the surest detections that find so many of the '
        "objects, how many are right.</p>",
        _precision_curves(report, run),
        "<h2>Class by class</h2>",
        f'<p class="soft">Found, missed and false alarms at a score of {SCORE_THRESHOLD}.</p>',
        table(
            class_head(report),
            class_rows(report, run),
            numbers=range(1, len(class_head(report))),
            kind="nowrap",
        ),
    ]
    for title, places in (("The most misses and false alarms", worst), ("Others", others)):
        if places:
            figures = [
                figure(
                    drawn[place], _mistakes(report.comparisons[place]), f"{report.split} {place}"
                )
                for place in places
            ]
            body += [
                f"<h2>{title}</h2>",
                '<p class="soft">Blue: right. Orange: false alarms. White: objects that were '
                "missed.</p>",
                photos(figures, len(figures)),
            ]
    if source.notes:
        items = "".join(f"<li>{text(note)}</li>" for note in source.notes)
        body += ["<h2>What was left out or changed</h2>", f"<ul>{items}</ul>"]
    body.append(f"<footer>keras_hybrid {__version__}. Average precision: pycocotools'.</footer>")
    return document(_title(run), body)


def _curves(history):
    history = [row for row in history if "val_ap" in row]  # epochs that were evaluated
    epochs = [row["epoch"] for row in history]
    shown = {"at an overlap of 0.5": "val_ap50", "mean over overlaps": "val_ap"}
    if history and "val_mask_ap" in history[0]:
        shown = {"masks, mean over overlaps": "val_mask_ap", "boxes": "val_ap"}
    precisions = {title: [100 * row[key] for row in history] for title, key in shown.items()}
    return (
        '<div class="curves">'
        + chart("average precision, %", epochs, precisions, low=0, high=100)
        + loss_chart(history, "images")
        + "</div>"
    )


def _precision_curves(report, run):
    recalls = list(range(101))
    precision, agnostic = report.evaluation.precision.precision, report.agnostic.precision
    has_objects = ~np.isnan(precision).any(axis=0)
    lines = {
        "blind to classes": 100 * agnostic[:, 0],
        "mean of classes": 100 * precision[:, has_objects].mean(axis=1),
    }
    shown = [chart("precision, %", recalls, lines, low=0, high=100, axis="recall, %")]
    by_ap = np.argsort(report.evaluation.precision.by_class, kind="stable")  # NaN last
    for label in [label for label in by_ap if has_objects[label]][:CURVES]:
        name = text(run.class_names[label])
        values = {"": 100 * precision[:, label]}
        shown.append(chart(f"{name}, %", recalls, values, low=0, high=100, axis="recall, %"))
    return f'<div class="curves">{"".join(shown)}</div>'


def _pictures(report, run, source, places):
    """Place -> the picture with its boxes and masks, as an address that holds it."""
    found, drawn = report.evaluation, {}
    for place, (pixels, objects) in enumerate(evaluation_pictures(source, report.split)):
        if place not in places:
            continue
        detections = found.detections[place]
        if found.mask_precision is not None:  # which the evaluation did not keep
            detections = detect(run.model, pixels, preprocessing=run.recipe.model)
        drawn[place] = picture(
            _with_objects(pixels, detections, objects, report.comparisons[place], run.class_names)
        )
    return drawn


def _with_objects(pixels, detections, objects, comparison, names):
    """The picture in the page's size, masks, boxes and names over it."""
    from PIL import Image, ImageColor, ImageDraw

    wrong = set(comparison.false_alarms.tolist())
    # What was missed below, then the surest on top.
    layers = [(objects, place, WHITE, names[objects.labels[place]]) for place in comparison.missed]
    for place in comparison.shown[::-1]:
        said = f"{names[detections.labels[place]]} {detections.scores[place]:.2f}"
        layers.append((detections, place, ORANGE if place in wrong else BLUE, said))
    pixels = pixels.astype("float32")
    for found, place, color, _ in layers:
        if found.masks is not None:
            inside = found.masks[place]
            pixels[inside] += VEIL * (np.array(ImageColor.getrgb(color)) - pixels[inside])
    scale = min(SHOWN_SIDE / max(pixels.shape[:2]), 4.0)
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
    image = Image.fromarray(pixels.astype("uint8")).resize(size)
    draw = ImageDraw.Draw(image)
    for found, place, color, said in layers:
        _box(draw, found.boxes[place] * scale, color, said)
    return np.asarray(image)


def _box(draw, box, color, said):
    x1, y1, x2, y2 = map(float, box)
    draw.rectangle((x1, y1, x2, y2), outline=color, width=2)
    left, top, right, bottom = draw.textbbox((x1 + 2, y1 + 1), said)
    draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=color)
    draw.text((x1 + 2, y1 + 1), said, fill="black" if color == WHITE else "white")
