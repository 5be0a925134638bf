"""Boxes over their pictures, with names and scores, and what they missed."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_hybrid.analysis.detection_mistakes import compare
from keras_hybrid.analysis.figures import new_figure, save
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.tasks.detection.post_processing import Detections
from keras_hybrid.tasks.pictures import list_of_images, pixels_of
from keras_hybrid.tasks.segmentation.class_tables import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORE_THRESHOLD = 0.3
_COLUMNS = 4
_PANEL = 3.2  # inches
_COLORS = 21
_VEIL = 0.45  # how much of a picture a mask hides


def plot_detections(
    images: Any,
    detections: Detections | Sequence[Detections],
    path: str | os.PathLike | None = None,
    *,
    classes: Sequence[str] | None = None,
    objects: Objects | Sequence[Objects] | None = None,
    score_threshold: float = SCORE_THRESHOLD,
) -> "Figure":
    """Draws pictures with the boxes that were found in them, and with masks where there are any.

    Args:
        images: a picture or several: a file, or (H, W, 3), RGB of 0 to 255.
        detections: of each, as `keras_hybrid.detect` gives them.
        path: of a PNG to write; None to write none.
        classes: their names; None for numbers.
        objects: of each picture; with them false alarms are dashed, and objects that were missed
            are dotted, in white.
        score_threshold: detections below it are not drawn.

    Returns: the Matplotlib figure.

    Raises:
        ValueError: for other numbers of pictures, detections and objects, labels without a name, or
            an impossible threshold.
    """
    given, _ = list_of_images(images)
    found: list[Any] = [detections] if isinstance(detections, Detections) else list(detections)
    truths: list[Any] = [objects] if isinstance(objects, Objects) else list(objects or ())
    truths = truths or [None] * len(given)
    if not len(given) == len(found) == len(truths):
        raise ValueError(
            "Detections, and objects where given, of each picture are expected. Received: "
            f"{len(given)} pictures, {len(found)} detections, {len(truths)} objects"
        )
    if not 0 <= score_threshold <= 1:
        raise ValueError(
            f"`score_threshold` must be from 0 to 1. Received: score_threshold={score_threshold!r}"
        )
    labels = np.concatenate([x.labels for x in (*found, *filter(None, truths))])
    if classes is not None and labels.size and labels.max() >= len(classes):
        raise ValueError(
            f"Every label needs a name. Received: {len(classes)} names, labels to {labels.max()}"
        )
    columns = min(_COLUMNS, len(given))
    rows = -(-len(given) // columns)
    figure = new_figure((_PANEL * columns, _PANEL * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, one, truth in zip(panels, given, found, truths, strict=False):
        axes.imshow(pixels_of(image).astype("uint8"))
        _draw(axes, one, truth, classes, score_threshold)
    return save(figure, path)


def _draw(axes, found, truth, classes, score_threshold):
    shown, right, missed = _compared(found, truth, score_threshold)
    colors = palette(_COLORS)
    for index in shown[::-1]:  # the surest on top
        label = int(found.labels[index])
        color = np.array(colors[label % _COLORS]) / 255
        name = str(label) if classes is None else classes[label]
        if found.masks is not None:
            _mask(axes, found.masks[index], color)
        _rectangle(axes, found.boxes[index], color, "-" if right[index] else "--")
        axes.text(
            *found.boxes[index, :2],
            f"{name} {found.scores[index]:.2f}",
            fontsize=6,
            color="white" if color.mean() < 0.6 else "black",
            verticalalignment="bottom",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 0.8},
        )
    for box in missed:
        _rectangle(axes, box, "white", ":")


def _compared(found, truth, score_threshold):
    """Places of what is drawn, whether each detection is no false alarm, and boxes missed."""
    if truth is None:
        shown = np.flatnonzero(found.scores >= score_threshold)
        return shown, np.ones(len(found), bool), []
    comparison = compare(found, truth, score_threshold)
    right = comparison.right | comparison.excused
    return comparison.shown, right, truth.boxes[comparison.missed]


def _mask(axes, mask, color):
    """A veil over an object's pixels."""
    veil = np.zeros((*mask.shape, 4), "float32")
    veil[mask] = (*color, _VEIL)
    axes.imshow(veil)


def _rectangle(axes, box, color, style):
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = map(float, box)
    axes.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1, fill=False, color=color, linestyle=style, linewidth=1.5
        )
    )
