"""Pictures of answers: what a classifier says, and where it looks."""

import math
import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_hybrid.analysis.attention import attention_maps
from keras_hybrid.analysis.attention_picture import plot_attention
from keras_hybrid.files import whole_file
from keras_hybrid.weights.preprocessing import preprocess_input

COLUMNS = 4
DOTS_PER_INCH = 150


def draw_answers(
    crops: Sequence[np.ndarray],
    scores: np.ndarray,
    labels: Sequence[str],
    path: str | os.PathLike,
):
    """Draws pictures with the best class and its score under each.

    Args:
        crops: (height, width, 3), RGB of 0 to 255.
        scores: (n, classes).
        labels: of the classes.
        path: of the PNG to write.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(crops))
    rows = math.ceil(len(crops) / columns)
    figure = Figure(figsize=(2.4 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, crop, row in zip(grid.flat, crops, scores, strict=False):
        axes.imshow(np.clip(crop, 0, 255).astype("uint8"))
        axes.set_title(f"{labels[row.argmax()]}  {row.max():.0%}", fontsize=11, y=-0.14)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)


def draw_attention(model: keras.Model, crop: np.ndarray, path: str | os.PathLike):
    """Draws where the network looks, in the last block of each stage.

    Args:
        model: a network of this package.
        crop: what it sees, (height, width, 3), RGB of 0 to 255.
        path: of the PNG to write.
    """
    maps = attention_maps(model, preprocess_input(crop[None], model))
    last = {found.block.partition("_")[0]: found.block for found in maps}
    plot_attention(maps, crop, path, blocks=list(last.values()))
