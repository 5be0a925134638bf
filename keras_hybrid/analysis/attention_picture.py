"""Attention over the input image, as the papers draw it."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_hybrid.analysis.attention import PIXELS, AttentionMap
from keras_hybrid.analysis.figures import new_figure, save
from keras_hybrid.layer_names import TO_FORMER, TO_MOBILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VIEWS = ("bridge", "token", "pixels", "from_pixel")
_MAP = "viridis"  # even in lightness, told apart with any kind of color vision
_OPACITY = 0.75


def plot_attention(
    maps: Sequence[AttentionMap],
    image: npt.ArrayLike,
    path: str | os.PathLike | None = None,
    view: str | None = None,
    *,
    index: int = 0,
    blocks: Sequence[str] | None = None,
    token: int = 0,
    pixel: tuple[float, float] = (0.5, 0.5),
) -> "Figure":
    """Draws attention over the image, as Figures 4 to 7 of the Mobile-Former paper do.

    Args:
        maps: of `attention_maps`.
        image: the picture that is looked at, (H, W, 3) or (H, W), RGB from 0 to 255.
        path: of a PNG to write; None to write none.
        view: "bridge" for both ways of the bridge, a row for each head of each block and a column
            for each token (Figures 4 and 7); "token" for what one token takes from the pixels,
            block by block (Figure 5); "pixels" for what every pixel takes from the tokens
            (Figure 6); "from_pixel" for where one pixel looks, layer by layer (MobileViT,
            iFormer). None for "bridge" or, where the network has none, "from_pixel".
        index: which image of the batch the maps are of.
        blocks: names such as "stage3_block0"; None for all.
        token: which, in view "token".
        pixel: in view "from_pixel", its place as shares of height and width, from 0 to 1.

    Returns: the Matplotlib figure. Colours: from 0 to the panel's greatest weight where weights
    sum to 1 over pixels, and to 1 where they do over tokens, so that an even third looks like one.

    Raises:
        ValueError: where the maps have nothing for the view, and for impossible arguments.

    Reference: Mobile-Former (https://arxiv.org/abs/2108.05895), Section 5.3.
    """
    gray = _gray(image)
    if view is None:
        view = "bridge" if any(found.part == TO_FORMER for found in maps) else "from_pixel"
    if view not in VIEWS:
        raise ValueError(f"`view` must be one of {VIEWS}. Received: view={view!r}")
    if not maps or not 0 <= index < len(maps[0].weights):
        raise ValueError(
            "`maps` must be of `attention_maps`, and `index` one of its images. "
            f"Received: {len(maps)} maps, index={index}"
        )
    if blocks is not None:
        known = list(dict.fromkeys(found.block for found in maps))
        if unknown := [block for block in blocks if block not in known]:
            raise ValueError(f"`blocks` must be of {known}. Received: unknown {unknown}")
        maps = [found for found in maps if found.block in blocks]
    to_former = [found for found in maps if found.part == TO_FORMER]
    to_mobile = [found for found in maps if found.part == TO_MOBILE]
    among_pixels = [found for found in maps if found.queries == found.keys == PIXELS]
    wanted = {
        "bridge": to_former,
        "token": to_former,
        "pixels": to_mobile,
        "from_pixel": among_pixels,
    }
    if not wanted[view]:
        raise ValueError(
            f'There is no attention for the view "{view}". Received: maps of '
            f"{sorted({str(found.part) for found in maps})}"
        )
    if view == "bridge":
        figure = _draw_bridge(to_former, to_mobile, gray, index)
    elif view == "token":
        tokens = to_former[0].query_shape[0]
        if not 0 <= token < tokens:
            raise ValueError(f"There are {tokens} tokens. Received: token={token}")
        figure = _draw_token(to_former, gray, index, token)
    elif view == "pixels":
        figure = _draw_pixels(to_mobile, gray, index)
    else:
        if not all(0 <= place <= 1 for place in pixel):
            raise ValueError(f"`pixel` is two shares from 0 to 1. Received: pixel={pixel}")
        figure = _draw_from_pixel(among_pixels, gray, index, pixel)
    return save(figure, path)


def _draw_bridge(to_former, to_mobile, gray, index):
    """Rows: blocks and their heads. Columns: tokens, Mobile->Former left, Mobile<-Former right."""
    back = {found.block: found for found in to_mobile}
    heads, tokens = to_former[0].num_heads, to_former[0].query_shape[0]
    num_rows = sum(found.num_heads for found in to_former)
    side = 0.8 if num_rows > 8 else 1.0
    figure = new_figure((0.9 + side * (2 * tokens + 0.5), 1.3 + (side + 0.04) * num_rows))
    grid = figure.subplots(
        num_rows,
        2 * tokens + 1,
        squeeze=False,
        width_ratios=[1] * tokens + [0.3] + [1] * tokens,
    )
    grid_rows = iter(grid)
    for found in to_former:
        opposite = back.get(found.block)
        for head in range(found.num_heads):
            row = next(grid_rows)
            row[tokens].set_visible(False)
            _label(row[0], f"{_title(found)}\nhead {head + 1}" if heads > 1 else _title(found))
            for token in range(tokens):
                left = _panel(row[token], gray, found.weights[index, head, token])
                if opposite is None:
                    row[tokens + 1 + token].set_visible(False)
                    continue
                values = opposite.weights[index, head]  # (H, W, tokens)
                right = _panel(row[tokens + 1 + token], gray, values[..., token], 1.0)
    for token in range(tokens):
        for first in (0, tokens + 1):
            grid[0, first + token].set_title(f"token {token + 1}", fontsize=8)
    _scale(figure, left, grid[:, :tokens], "Mobile->Former: over pixels, to the panel's greatest")
    if back:
        _scale(
            figure,
            right,
            grid[:, tokens + 1 :],
            "Mobile<-Former: over tokens, to 1",
        )
    return figure


def _draw_token(to_former, gray, index, token):
    """Rows: heads. Columns: blocks."""
    heads = to_former[0].num_heads
    figure = new_figure((0.9 + 1.1 * (len(to_former) + 1), 1.1 + 1.2 * heads))
    grid = figure.subplots(heads, len(to_former) + 1, squeeze=False)
    for head in range(heads):
        _panel(grid[head, 0], gray, None)
        _label(grid[head, 0], f"head {head + 1}")
        for axes, found in zip(grid[head, 1:], to_former, strict=True):
            drawn = _panel(axes, gray, found.weights[index, head, token])
            if head == 0:
                axes.set_title(_title(found), fontsize=8)
    grid[0, 0].set_title("image", fontsize=8)
    label = f"Mobile->Former, token {token + 1}: over pixels, to the panel's greatest"
    _scale(figure, drawn, grid, label)
    return figure


def _draw_pixels(to_mobile, gray, index):
    """Rows: blocks and their heads. Columns: the image, then the tokens."""
    tokens = to_mobile[0].key_shape[0]
    num_rows = sum(found.num_heads for found in to_mobile)
    figure = new_figure((0.9 + 1.3 * (tokens + 1), 1.1 + 1.36 * num_rows))
    grid = figure.subplots(num_rows, tokens + 1, squeeze=False)
    grid_rows = iter(grid)
    for found in to_mobile:
        for head in range(found.num_heads):
            row = next(grid_rows)
            _panel(row[0], gray, None)
            _label(row[0], f"{_title(found)}\nhead {head + 1}")
            for token, axes in enumerate(row[1:]):
                values = found.weights[index, head]  # (H, W, tokens)
                drawn = _panel(axes, gray, values[..., token], 1.0)
    grid[0, 0].set_title("image", fontsize=8)
    for token, axes in enumerate(grid[0, 1:], start=1):
        axes.set_title(f"token {token}", fontsize=8)
    _scale(figure, drawn, grid, "Mobile<-Former: over tokens, to 1")
    return figure


def _draw_from_pixel(among_pixels, gray, index, pixel):
    """Rows: layers. Columns: the image with the pixel, then the heads."""
    heads = max(found.num_heads for found in among_pixels)
    per_row = 1 if heads > 1 else min(6, len(among_pixels))
    num_rows = math.ceil(len(among_pixels) / per_row)
    figure = new_figure((1.2 + 1.25 * (1 + heads * per_row), 0.9 + 1.4 * num_rows))
    grid = figure.subplots(num_rows, 1 + heads * per_row, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, found in enumerate(among_pixels):
        row, place = divmod(number, per_row)
        # A map resized to whole patches covers the image; one padded to whole windows overlaps it.
        size = found.map_size if found.window_size else found.query_shape
        at = [min(int(p * length), length - 1) for p, length in zip(pixel, size, strict=True)]
        looked = found.seen_from(*at, image=index)[:, : size[0], : size[1]]
        if place == 0:
            _panel(grid[row, 0], gray, None)
            _mark(grid[row, 0], pixel, gray)
        if heads > 1:
            _label(grid[row, 0], _title(found))
        for head in range(found.num_heads):
            axes = grid[row, 1 + place * heads + head]
            drawn = _panel(axes, gray, looked[head])
            _mark(axes, pixel, gray)
            if heads == 1:
                axes.set_title(_title(found), fontsize=7)
            elif row == 0 or head >= among_pixels[number - 1].num_heads:
                axes.set_title(f"head {head + 1}", fontsize=7)
    grid[0, 0].set_title("image", fontsize=7)
    _scale(figure, drawn, grid, "from the marked pixel: over pixels, to the panel's greatest")
    return figure


def _panel(axes, gray, values, greatest=None):
    """The image in gray, and a map over it, each of its pixels a square; returns what is drawn."""
    height, width = gray.shape
    extent = (0, width, height, 0)
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=extent)
    if values is None:
        return None
    greatest = float(values.max()) if greatest is None else greatest
    return axes.imshow(
        values,
        cmap=_MAP,
        vmin=0,
        vmax=greatest or 1,
        alpha=_OPACITY,
        extent=extent,
        interpolation="nearest",
    )


def _scale(figure, drawn, grid, label):
    """A bar of colors under some panels."""
    bar = figure.colorbar(
        drawn, ax=list(grid.flat), location="bottom", fraction=0.02, aspect=40, pad=0.01
    )
    low, high = drawn.get_clim()
    bar.set_ticks([low, high], labels=["0", "1" if label.endswith("to 1") else "greatest"])
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=8)
    bar.solids.set_alpha(1)


def _mark(axes, pixel, gray):
    """A cross at the pixel, visible on any color."""
    height, width = gray.shape
    row, column = pixel[0] * height, pixel[1] * width
    for color, size in (("black", 4), ("white", 2)):
        axes.plot(column, row, "+", color=color, markersize=9, markeredgewidth=size)


def _label(axes, text):
    axes.set_ylabel(text, fontsize=8, rotation=0, ha="right", va="center")


def _title(found):
    """stage3_block1_transformer0_attention of 16 x 16 -> its name and size in three lines."""
    name = found.name.removesuffix("_attention")
    for part in ("_mobile_to_former", "_former_to_mobile"):
        name = name.removesuffix(part)
    section, _, rest = name.partition("_")
    height, width = found.map_size
    return "\n".join(filter(None, (section, rest.replace("_", " "), f"{height} x {width}")))


def _gray(image):
    """(H, W) from an RGB or gray image of values 0 to 255."""
    image = np.asarray(image, "float32")
    if image.ndim == 3 and image.shape[-1] in (1, 3):
        weights = (0.299, 0.587, 0.114) if image.shape[-1] == 3 else (1.0,)
        image = image @ np.asarray(weights, "float32")
    if image.ndim != 2:
        raise ValueError(
            "`image` must be (height, width, 3) or (height, width), from 0 to 255. "
            f"Received: image of shape {np.shape(image)}"
        )
    return image
