"""What a network attends to: the weights of its attention layers, back in image positions."""

import math
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_hybrid.keras_private import Call, calls
from keras_hybrid.layer_names import FINAL, LayerName, part_of_layer
from keras_hybrid.layers import (
    CutWindows,
    DotProductAttention,
    FoldPatches,
    GlueWindows,
    UnfoldPatches,
)

PIXELS = "pixels"
TOKENS = "tokens"


@dataclass(frozen=True)
class AttentionMap:
    """The weights of one attention layer; they sum to 1 over the axes of the keys.

    Attributes:
        name: of the layer.
        part: "Mobile->Former", "Former", "Mobile<-Former" or "attention blocks" (MobileViT and
            iFormer); None for a layer of another name.
        weights: (batch, heads, *queries, *keys). Tokens have one axis; pixels have two, rows and
            columns of the feature map.
        queries: "pixels" or "tokens".
        keys: "pixels" or "tokens".
        patch_size: of MobileViT, whose pixels attend to the pixels at the same place of every
            patch: keys are (rows of patches, columns of patches). Else None.
        window_size: of iFormer at high resolution, whose pixels attend to those of their window:
            keys are (window_size, window_size). Else None.
        map_size: height and width of the network's feature map, where the layer itself sees it
            resized to whole patches or padded to whole windows; None where there is no map.
    """

    name: str
    part: str | None
    weights: np.ndarray
    queries: str
    keys: str
    patch_size: int | None = None
    window_size: int | None = None
    map_size: tuple[int, int] | None = None

    @property
    def block(self) -> str:
        """The block it is in, such as "stage3_block0"."""
        place = LayerName.parse(self.name)
        if place and (place.block is not None or place.section == FINAL):
            return place.enclosing
        return self.name

    @property
    def num_heads(self) -> int:
        return self.weights.shape[1]

    @property
    def query_shape(self) -> tuple[int, ...]:
        """The axes of the queries: (tokens,) or (rows, columns)."""
        return self.weights.shape[2 : 2 + _axes(self.queries)]

    @property
    def key_shape(self) -> tuple[int, ...]:
        """The axes of the keys: (tokens,) or (rows, columns)."""
        return self.weights.shape[2 + _axes(self.queries) :]

    @property
    def rows(self) -> np.ndarray:
        """The weights as a matrix for each head: (batch, heads, queries, keys)."""
        queries, keys = math.prod(self.query_shape), math.prod(self.key_shape)
        return self.weights.reshape(*self.weights.shape[:2], queries, keys)

    def seen_from(self, row: int, column: int, image: int = 0) -> np.ndarray:
        """Where a pixel's queries look, as maps over the whole feature map that the layer sees.

        Args:
            row: of the feature map that the layer sees.
            column: of it.
            image: number in the batch.

        Returns: (heads, H, W), zero where the pixel cannot look (outside its window, or at other
            places of the patches).

        Raises:
            ValueError: where queries or keys are tokens, or there is no such pixel.
        """
        if (self.queries, self.keys) != (PIXELS, PIXELS):
            raise ValueError(
                f"Attention from pixels to pixels is expected. Received: {self.name}, from "
                f"{self.queries} to {self.keys}"
            )
        height, width = self.query_shape
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"The map of {self.name} has {height} x {width} pixels. "
                f"Received: row={row}, column={column}"
            )
        looks = self.weights[image, :, row, column]  # (heads, *keys)
        whole = np.zeros((self.num_heads, height, width), looks.dtype)
        if self.patch_size:
            p = self.patch_size
            whole[:, row % p :: p, column % p :: p] = looks
        elif self.window_size:
            top, left = (place - place % self.window_size for place in (row, column))
            whole[:, top : top + self.window_size, left : left + self.window_size] = looks
        else:
            whole[:] = looks
        return whole


def attention_maps(
    model: keras.Model, images: npt.ArrayLike, batch_size: int = 8
) -> list[AttentionMap]:
    """The weights of every attention layer of a network, computed from what the layer is given.

    Nothing is trained, rebuilt or changed; any backend. Mobile-Former has maps of its bridge (over
    pixels from tokens, over tokens from pixels) and of Former, block by block.

    Args:
        model: a network of this package, built or loaded, or one that calls it as a layer.
        images: (batch, H, W, 3), as the model takes them: see `keras_hybrid.preprocess_input`.
        batch_size: how many images are computed at once.

    Returns: an `AttentionMap` for each `DotProductAttention`, in the graph's order.

    Raises:
        ValueError: for a model that is not functional or has no such layer, such as
            `MobileFormer26M(former=False)`, or for images that do not fit.
    """
    images = np.asarray(images, "float32")
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "`images` must be (batch, height, width, channels), one or more. "
            f"Received: images of shape {images.shape}"
        )
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    found = [_maps(model, ops.convert_to_tensor(batch)) for batch in batches]
    if not found[0]:
        raise ValueError(
            "The model has no `DotProductAttention`, so there is no attention to see. "
            f"Received: model={model.name}"
        )
    joined = []
    for same in zip(*found, strict=True):
        weights = np.concatenate([one.weights for one in same])
        joined.append(AttentionMap(**{**vars(same[0]), "weights": weights}))
    return joined


def _maps(model, images):
    """The maps of one batch, of models inside the model too."""
    wanted = []
    origins = {}  # the unfolding or cutting that a tensor comes from, by the tensor's id
    for call in calls(model):
        origin = next((origins[id(t)] for t in call.inputs if id(t) in origins), None)
        if isinstance(call.operation, UnfoldPatches | CutWindows):
            origin = call
        elif isinstance(call.operation, FoldPatches | GlueWindows):
            origin = None
        if origin is not None:
            origins.update((id(tensor), origin) for tensor in call.outputs)
        if isinstance(call.operation, DotProductAttention | keras.Model):
            wanted.append((call, origin))
    if not wanted:
        return []
    probes = [_tensors(call, origin) for call, origin in wanted]
    flat = [tensor for tensors in probes for tensor in tensors]
    (image,) = model.inputs
    values = iter(keras.tree.flatten(keras.Model(image, flat)(images, training=False)))
    maps = []
    for (call, origin), tensors in zip(wanted, probes, strict=True):
        given = [next(values) for _ in tensors]
        if isinstance(call.operation, keras.Model):
            maps += _maps(call.operation, given[0])
        else:
            maps.append(_map(call, origin, given))
    return maps


def _tensors(call: Call, origin: Call | None):
    """What has to be known of a call: its inputs, and the map before unfolding or cutting."""
    return [*call.inputs, *(origin.inputs[:1] if origin is not None else ())]


def _map(call, origin, given):
    """The map of a layer from the values of its inputs, and of `origin`'s where there is one."""
    layer, (query, key) = call.operation, given[:2]
    weights = ops.convert_to_numpy(ops.cast(layer.attention_weights(query, key), "float32"))
    weights = np.asarray(weights)  # (batch, groups * heads, N of query, N of key)
    batch, groups, _, num_keys = weights.shape
    heads, query_axes, key_axes = layer.num_heads, query.shape[1:-1], key.shape[1:-1]
    map_size = tuple(given[-1].shape[1:3]) if origin is not None else None
    patch_size = window_size = None
    queries, keys = (PIXELS if len(axes) == 2 else TOKENS for axes in (query_axes, key_axes))
    if layer.separate_positions:
        positions = groups // heads
        patch_size = math.isqrt(positions)
        rows = -(-map_size[0] // patch_size) if map_size else math.isqrt(num_keys)
        columns = num_keys // rows
        x = weights.reshape(batch, patch_size, patch_size, heads, rows, columns, rows, columns)
        # (batch, heads, rows, p, columns, p, rows, columns)
        x = x.transpose(0, 3, 4, 1, 5, 2, 6, 7)
        weights = x.reshape(batch, heads, rows * patch_size, columns * patch_size, rows, columns)
        map_size = map_size or (rows * patch_size, columns * patch_size)
    elif origin is not None and isinstance(origin.operation, CutWindows):
        window_size = size = origin.operation.window_size
        rows, columns = (-(-length // size) for length in map_size)
        x = weights.reshape(-1, rows, columns, heads, size, size, size, size)
        # (batch, heads, rows, size, columns, size, size, size)
        x = x.transpose(0, 3, 1, 4, 2, 5, 6, 7)
        weights = x.reshape(-1, heads, rows * size, columns * size, size, size)
    else:
        weights = weights.reshape(batch, heads, *query_axes, *key_axes)
        for axes in (query_axes, key_axes):
            if len(axes) == 2:
                map_size = tuple(axes)
    return AttentionMap(
        name=layer.name,
        part=part_of_layer(layer.name),
        weights=weights,
        queries=queries,
        keys=keys,
        patch_size=patch_size,
        window_size=window_size,
        map_size=map_size,
    )


def _axes(kind):
    return 2 if kind == PIXELS else 1
