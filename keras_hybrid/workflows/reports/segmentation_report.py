"""What came of a run of segmentation: `report.md`, and `report.html` with masks in it."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.files import write_text
from keras_hybrid.tasks.segmentation.class_tables import palette
from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL
from keras_hybrid.training.data.segmentation.segmentation_pipeline import (
    segmentation_evaluation_dataset,
)
from keras_hybrid.training.data.segmentation.segmentation_source import SegmentationSource
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.training.segmentation_evaluation import (
    SegmentationEvaluation,
    answers,
    evaluate_segmentation,
)
from keras_hybrid.training.tasks.of_recipe import task_of
from keras_hybrid.version import __version__
from keras_hybrid.weights.preprocessing import preprocess_input
from keras_hybrid.workflows.reports.page_parts import (
    cards,
    chart,
    document,
    loss_chart,
    table,
    text,
)

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
WORST, EXAMPLES = 8, 4
LARGEST = 320  # pixels of a picture's longer side on the page
OPACITY = 0.55  # of the classes' colors
CLASS_HEAD = ("class", "IoU", "of the pixels", "most often taken for")


@dataclass(frozen=True)
class SegmentationReport:
    """A run's numbers, as both files show them.

    Attributes:
        path: of the page.
        headline: the result in one line.
        split: that was evaluated.
        evaluation: of it.
    """

    path: Path
    headline: str
    split: str
    evaluation: SegmentationEvaluation


def write_segmentation_report(
    run: Run, source: SegmentationSource, split: str | None = None
) -> SegmentationReport:
    """Evaluates a run and writes `report.md` and `report.html` into its folder.

    Args:
        run: finished.
        source: of its data.
        split: to evaluate; None for the evaluation split.
    """
    split = split or source.evaluation_split
    found = evaluate_segmentation(run.model, source, run.recipe, split)
    headline = (
        f"mIoU {found.mean_iou:.1%} of {len(run.class_names)} classes on {len(found.images)} "
        f"{split} images; {found.pixel_accuracy:.1%} of the pixels right, all classes but "
        f"{run.class_names[0]} taken as one: IoU {found.foreground_iou:.1%}"
    )
    report = SegmentationReport(run.folder / PAGE_FILE, headline, split, found)
    worst = found.worst()
    middle = [worst[round(place)] for place in np.linspace(0, len(worst) - 1, EXAMPLES + 2)[1:-1]]
    places = {image.place for image in [*worst[:WORST], *middle]}
    pictures = _pictures(run, source, split, places)
    write_text(report.path, _page(report, run, source, worst[:WORST], middle, pictures))
    write_text(run.folder / REPORT_FILE, markdown(report, run))
    return report


def class_rows(report: SegmentationReport, run: Run) -> list[tuple[str, str, str, str]]:
    """Name, IoU, share of the labelled pixels, and the class most often taken for it."""
    matrix = report.evaluation.matrix
    rows = []
    for label, (name, iou) in enumerate(
        zip(run.class_names, report.evaluation.class_iou(), strict=True)
    ):
        others = matrix[label].copy()
        others[label] = 0
        taken = run.class_names[others.argmax()] if others.any() else ""
        share = matrix[label].sum() / max(matrix.sum(), 1)
        rows.append((name, "" if np.isnan(iou) else f"{iou:.1%}", f"{share:.1%}", taken))
    return rows


def markdown(report: SegmentationReport, run: Run) -> str:
    """The report for a terminal or a repository."""
    lines = [f"# {_title(run)}", "", f"**{report.headline}**", ""]
    lines += [f"| {' | '.join(CLASS_HEAD)} |", f"|{' --- |' * len(CLASS_HEAD)}"]
    lines += [f"| {' | '.join(row)} |" for row in class_rows(report, run)]
    lines += ["", "Images with the least mIoU, by their place in the split:", ""]
    lines += [
        f"- {image.place}: {image.mean_iou:.1%}" for image in report.evaluation.worst()[:WORST]
    ]
    return "\n".join(lines) + "\n"


def _title(run):
    return f"{run.recipe.head} on {run.recipe.model}, {Path(run.data).name}"


def _page(report, run, source, worst, middle, pictures):
    found = report.evaluation
    body = [
        f"<h1>{text(_title(run))}</h1>",
        f'<p class="lead">{text(report.headline)}</p>',
        cards(
            [
                (f"{found.mean_iou:.1%}", "mIoU, mean over the classes"),
                (f"{found.pixel_accuracy:.1%}", "of the pixels right"),
                (f"{len(found.images):,}", f"{report.split} images"),
                (f"{source.sizes['train']:,}", "training images"),
                (f"{run.recipe.resolution} px", "of a training batch, height and width"),
                (f"{len(run.history)}", "epochs"),
            ]
        ),
        "<h2>How training went</h2>",
        _curves(run),
        "<h2>Class by class</h2>",
        table(CLASS_HEAD, class_rows(report, run), numbers=(1, 2), kind="nowrap"),
        _legend(run.class_names),
    ]
    for title, images in (("The worst images", worst), ("Others", middle)):
        if images:
            body += [
                f"<h2>{title}</h2>",
                '<p class="soft">Image, its labels, the network\'s answer. White has no label.</p>',
                *(_strip(report, image, pictures[image.place]) for image in images),
            ]
    if source.notes:
        items = "".join(f"<li>{text(note)}</li>" for note in source.notes)
        body += ["<h2>What was left out or changed</h2>", f"<ul>{items}</ul>"]
    body.append(f"<footer>keras_hybrid {__version__}</footer>")
    return document(_title(run), body)


def _strip(report, image, source):
    name = f"{report.split} {image.place}"
    return (
        f'<figure class="strip"><img src="{source}" alt="{name}"><figcaption>mIoU '
        f"{image.mean_iou:.1%}<small>{name}</small></figcaption></figure>"
    )


def _legend(names):
    """The colors of the classes."""
    colors = palette(len(names), background=True)
    items = "".join(
        f'<span><i style="background:rgb({red},{green},{blue})"></i>{text(name)}</span>'
        for (red, green, blue), name in zip(colors, names, strict=True)
    )
    return f'<p class="legend">{items}</p>'


def _curves(run):
    metric = task_of(run.recipe).metric(run.recipe)
    history = [row for row in run.history if f"val_{metric}" in row]  # that were evaluated
    ious = {
        f"{name} images": [100 * row.get(f"{prefix}{metric}", math.nan) for row in history]
        for name, prefix in (("training", ""), ("validation", "val_"))
    }
    epochs = [row["epoch"] for row in history]
    score = chart("mIoU, %", epochs, ious, low=0, high=100)
    return f'<div class="curves">{score}{loss_chart(history, "images")}</div>'


def _pictures(run, source, split, places):
    """Place -> image, labels and answer side by side, a PNG in base64."""
    colors = np.array(palette(len(run.class_names), background=True), "float32")
    found, start = {}, 0
    dataset = segmentation_evaluation_dataset(source, run.recipe, split, preprocess=False)
    for images, masks in dataset.as_numpy_iterator():
        masks = masks["logits"] if isinstance(masks, dict) else masks
        inside = [place - start for place in places if start <= place < start + len(images)]
        if inside:
            fitting = _fitting(images, run.model)
            answered = answers(
                run.model, preprocess_input(fitting, run.recipe.model), masks, run.recipe
            )
        for index in inside:
            views = [
                _shown(images[index], labels, colors)
                for labels in (None, masks[index], answered[index])
            ]
            found[start + index] = _png(np.concatenate(views, 1))
        start += len(images)
    return found


def _fitting(images, model):
    """The images in the size that the network takes."""
    height, width = model.input_shape[1:3]
    if None in (height, width) or images.shape[1:3] == (height, width):
        return images
    import tensorflow as tf

    return tf.image.resize(images, (height, width)).numpy()


def _shown(image, labels, colors):
    """An image of a page's size, its labels over it."""
    from PIL import Image

    scale = min(LARGEST / max(image.shape[:2]), 3.0)
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    pixels = np.clip(np.rint(image), 0, 255).astype("uint8")
    shown = np.asarray(Image.fromarray(pixels).resize(size), "float32")
    if labels is not None:
        labels = Image.fromarray(np.asarray(labels).astype("uint16"))
        labels = np.asarray(labels.resize(size, Image.Resampling.NEAREST)).astype(int)
        labelled = labels != IGNORED_LABEL
        tint = colors[np.where(labelled, labels, 0)]
        mixed = shown + (tint - shown) * OPACITY
        # Where there is no label, the picture is white.
        shown = np.where(labelled[..., None], mixed, 255)
    return np.pad(shown, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def _png(pixels):
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype("uint8")).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
