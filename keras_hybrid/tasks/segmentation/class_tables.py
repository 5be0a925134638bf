"""Names and colors of the classes of the data sets that segmentation is published on."""

import colorsys
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

IGNORED_COLOR = (255, 255, 255)
_BACKGROUND = (0, 0, 0)
_LEVELS = 3  # of lightness, that each of the hues below comes in
# Okabe and Ito's, without black; neighbors differ in lightness, too.
_HUES = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (204, 121, 167),
    (240, 228, 66),
)
_VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant"),
    *("sheep", "sofa", "train", "tv monitor"),
)


@dataclass(frozen=True)
class ClassTable:
    """The classes of a segmentation data set, in the order of a network's outputs.

    Attributes:
        dataset: its name.
        names: of the classes.
        colors: of the classes, (red, green, blue) from 0 to 255.
    """

    dataset: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]


@functools.cache
def voc_table() -> ClassTable:
    """PASCAL VOC's background and 20 classes; the colors are its development kit's."""
    return ClassTable(
        "PASCAL VOC 2012", _VOC_NAMES, tuple(_voc_color(i) for i in range(len(_VOC_NAMES)))
    )


@functools.cache
def ade20k_table() -> ClassTable:
    """ADE20K's 150 classes; names and colors are its scene parsing challenge's."""
    text = resources.files(__package__).joinpath("ade20k_classes.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    colors = tuple(tuple(bytes.fromhex(color[1:])) for color, _ in rows)
    return ClassTable("ADE20K", tuple(name for _, name in rows), colors)


def table_of(dataset: str) -> ClassTable | None:
    """The table of a data set by its name; None for one that is not known."""
    return next((x for x in (voc_table(), ade20k_table()) if x.dataset == dataset), None)


def palette(classes: int, background: bool = False) -> tuple[tuple[int, int, int], ...]:
    """Colors for any classes, told apart with any kind of color vision while they are few.

    The first seven are Okabe and Ito's, the next ones the same hues darker and lighter. Beyond 21,
    neighbors differ in hue and lightness, but no palette keeps so many apart for everybody.

    Args:
        classes: number of colors.
        background: whether the first is black, for a class that is nothing.

    Raises:
        ValueError: for no classes.

    Reference: Okabe and Ito, Color Universal Design (https://jfly.uni-koeln.de/color/).
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")
    colors = [_BACKGROUND] if background else []
    for level in range(_LEVELS):
        colors += [_shade(hue, level) for hue in _HUES]
    turn = 0
    while len(colors) < classes:
        turn += 1
        # A golden angle between neighbors, and three lightnesses in turn.
        red, green, blue = colorsys.hls_to_rgb(
            turn * 0.618034 % 1, (0.35, 0.55, 0.75)[turn % 3], 0.65
        )
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors[:classes])


def color_mask(
    mask: npt.ArrayLike, colors: Sequence[tuple[int, int, int]] | None = None
) -> np.ndarray:
    """A label map as a picture.

    Args:
        mask: (H, W) of class numbers; 255 for pixels of none, unless there are so many classes.
        colors: of the classes, (red, green, blue) from 0 to 255 each; None for `palette`'s.

    Returns: uint8 (H, W, 3).

    Raises:
        ValueError: for another shape, labels that are no integers, or without a color.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "iu" or mask.size == 0:
        raise ValueError(
            "A label map (H, W) of integers is expected. "
            f"Received: {mask.dtype} of shape {mask.shape}"
        )
    if colors is None:
        known = mask[mask != 255]
        colors = palette(int(known.max(initial=0)) + 1, background=True)
    table = np.asarray(colors)
    if table.ndim != 2 or table.shape[1] != 3 or table.min() < 0 or table.max() > 255:
        raise ValueError(
            "`colors` must be (red, green, blue) from 0 to 255 for each class. "
            f"Received: colors={colors!r}"
        )
    ignored = (mask == 255) & (len(table) <= 255)
    if (strange := mask[((mask < 0) | (mask >= len(table))) & ~ignored]).size:
        raise ValueError(
            "Each label needs a color. "
            f"Received: labels {np.unique(strange)[:8].tolist()}, {len(table)} colors"
        )
    picture = table.astype("uint8")[np.where(ignored, 0, mask)]
    picture[ignored] = IGNORED_COLOR
    return picture


def _voc_color(label):
    """The development kit's: the label's bits, three at a time, from each channel's top down."""
    color = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            color[channel] |= (label >> (3 * place + channel) & 1) << (7 - place)
    return tuple(color)


def _shade(color, level):
    """The color, a darker or a lighter one of its hue."""
    if level == 0:
        return color
    towards = 0 if level == 1 else 255
    return tuple(round(0.5 * channel + 0.5 * towards) for channel in color)
