"""Label maps over their pictures, with the names of what is there."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_hybrid.analysis.figures import new_figure, save
from keras_hybrid.image_files import decode_image
from keras_hybrid.tasks.segmentation.class_tables import ClassTable, color_mask, palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IGNORED_LABEL = 255
LISTED = 12  # so many classes the legend names, the largest first
_PANEL = 3.2  # inches


def plot_segmentation(
    images: Any,
    masks: Any,
    path: str | os.PathLike | None = None,
    *,
    classes: ClassTable | Sequence[str] | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
    opacity: float = 0.6,
) -> "Figure":
    """Draws pictures with their label maps laid over them, and a legend of the classes.

    Args:
        images: a picture or several: a file, or (H, W, 3), RGB of 0 to 255.
        masks: the label map of each, (H, W), as `keras_hybrid.segment` gives them.
        path: of a PNG to write; None to write none.
        classes: their names, or the table of a data set, with colors; None for numbers.
        colors: of the classes, (red, green, blue) from 0 to 255; None for the table's, or for
            colors that are told apart with any kind of color vision, the first of them black.
        opacity: of the maps, from 0 to 1.

    Returns: the Matplotlib figure.

    Raises:
        ValueError: for maps that do not fit the pictures, labels without a name or color, or an
            impossible opacity.
    """
    if isinstance(images, str | bytes | os.PathLike) or getattr(images, "ndim", 0) == 3:
        images, masks = [images], [masks]
    pictures = [_picture(image) for image in images]
    masks = [np.asarray(mask) for mask in masks]
    if not pictures or [x.shape[:2] for x in pictures] != [mask.shape for mask in masks]:
        raise ValueError(
            "A label map of each picture's size is expected. Received: pictures of "
            f"{[x.shape[:2] for x in pictures]}, label maps of {[mask.shape for mask in masks]}"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"`opacity` must be from 0 to 1. Received: opacity={opacity!r}")
    names = _names(classes, masks)
    if colors is None:
        if isinstance(classes, ClassTable):
            colors = classes.colors
        else:
            colors = palette(len(names), background=True)
    layers = [color_mask(mask, colors) for mask in masks]
    figure = new_figure((2 * _PANEL + 1.6, _PANEL * len(pictures)))
    grid = figure.subplots(len(pictures), 2, squeeze=False)
    for row, picture, mask, layer in zip(grid, pictures, masks, layers, strict=True):
        for axes in row:
            axes.set_axis_off()
        row[0].imshow(picture)
        row[1].imshow((picture * (1 - opacity) + layer * opacity).astype("uint8"))
        row[1].legend(
            handles=_legend(mask, names, colors),
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            fontsize=7,
            frameon=False,
        )
    return save(figure, path)


def _picture(image):
    """uint8 (H, W, 3)."""
    if isinstance(image, str | bytes | os.PathLike):
        return decode_image(os.fsdecode(image))
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"A picture (H, W, 3) is expected. Received: shape {image.shape}")
    return np.clip(image, 0, 255).astype("uint8")


def _names(classes, masks):
    if isinstance(classes, ClassTable):
        return classes.names
    if classes is not None:
        return tuple(map(str, classes))
    most = max(int(mask[mask != IGNORED_LABEL].max(initial=0)) for mask in masks)
    return tuple(f"class {label}" for label in range(most + 1))


def _legend(mask, names, colors):
    """Patches of the classes that a map has, the largest first."""
    from matplotlib.patches import Patch

    labels, counts = np.unique(mask, return_counts=True)
    shares = sorted(zip(counts / mask.size, labels, strict=True), reverse=True)
    return [
        Patch(
            facecolor=np.array(colors[label]) / 255,
            edgecolor="gray",
            label=f"{names[label]}  {share:.0%}",
        )
        for share, label in shares
        if label < len(names)
    ][:LISTED]
