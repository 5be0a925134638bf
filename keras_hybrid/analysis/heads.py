"""How alike the heads of an attention layer are, by depth (iFormer, Figure 3)."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
import numpy.typing as npt

from keras_hybrid.analysis.attention import attention_maps
from keras_hybrid.analysis.figures import SERIES_COLORS, new_figure, save
from keras_hybrid.layer_names import LayerName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class HeadSimilarity:
    """How alike the heads of one layer are.

    Attributes:
        name: of the layer.
        part: "Mobile->Former", "Former", "Mobile<-Former" or "attention blocks".
        depth: its number among the layers that were compared, from 1.
        num_heads: of the layer.
        mean: cosine similarity, mean over images and pairs of heads; 1 for equal heads.
        images: the same for each image, (batch,).
    """

    name: str
    part: str | None
    depth: int
    num_heads: int
    mean: float
    images: np.ndarray


def head_similarity(
    model: keras.Model, images: npt.ArrayLike, batch_size: int = 8
) -> list[HeadSimilarity]:
    """Mean cosine similarity between the heads of each attention layer with several heads.

    Two heads are compared by their whole attention maps (queries times keys), which are never
    negative: even unrelated heads have a similarity well above 0. The paper does not say what it
    compares.

    Args:
        model: such as `IFormerM(attention="mha")`; any network of this package with several heads.
        images: (batch, H, W, 3), as the model takes them.
        batch_size: how many images are computed at once.

    Returns: a `HeadSimilarity` for each layer of two heads or more, in the order of depth.

    Raises:
        ValueError: where no layer has two heads, such as in iFormer's single-head attention.

    Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 3.3 and Figure 3.
    """
    maps = [found for found in attention_maps(model, images, batch_size) if found.num_heads > 1]
    if not maps:
        raise ValueError(
            'A network of several heads is expected, such as `IFormerM(attention="mha")`. '
            f"Received: model={model.name}, whose attention has one head"
        )
    results = []
    for depth, found in enumerate(maps, start=1):
        batch, heads = found.weights.shape[:2]
        x = found.weights.reshape(batch, heads, -1).astype("float64")
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        cosines = x @ x.transpose(0, 2, 1)  # (batch, heads, heads)
        above = np.triu_indices(heads, k=1)
        of_images = cosines[:, above[0], above[1]].mean(-1)
        results.append(
            HeadSimilarity(found.name, found.part, depth, heads, float(of_images.mean()), of_images)
        )
    return results


def plot_head_similarity(
    results: list[HeadSimilarity], path: str | os.PathLike | None = None
) -> "Figure":
    """Draws the similarity of heads by depth: a dot for each image, a line through the means.

    Args:
        results: of `head_similarity`.
        path: of a PNG to write; None to write none.

    Returns: the Matplotlib figure.
    """
    figure = new_figure((max(5.0, 1.5 + 0.45 * len(results)), 3.6))
    axes = figure.subplots()
    parts = list(dict.fromkeys(result.part or result.name for result in results))
    for number, part in enumerate(parts):
        own = [result for result in results if (result.part or result.name) == part]
        color, marker = SERIES_COLORS[(0, 3, 2, 5)[number % 4]], _MARKERS[number % 4]
        for result in own:
            places = np.full(len(result.images), result.depth)
            axes.plot(places, result.images, ".", color=color, alpha=0.35, markersize=5)
        depths, means = [r.depth for r in own], [r.mean for r in own]
        axes.plot(depths, means, marker=marker, color=color, label=part)
    axes.set_xticks([result.depth for result in results], [_short(r.name) for r in results])
    axes.tick_params(axis="x", rotation=60, labelsize=7)
    axes.set_ylim(0, 1.03)
    axes.set_ylabel("mean cosine similarity of heads")
    axes.set_xlabel("layer, by depth")
    axes.grid(alpha=0.3)
    if len(parts) > 1:
        figure.legend(loc="outside upper center", ncols=len(parts), frameon=False, fontsize=8)
    return save(figure, path)


def _short(name):
    """stage3_block1_mobile_to_former_attention -> stage3 block1."""
    place = LayerName.parse(name)
    return place.enclosing.replace("_", " ") if place else name.partition("_")[0]
