"""Anchors: the boxes that a detector's raw outputs are offsets from.

They follow from a few numbers and the image's size. The numbers are kept in the model, by the layer
that joins the levels, so that anchors need no file beside it.
"""

import dataclasses
import math

import keras
import numpy as np


@keras.saving.register_keras_serializable("keras_hybrid")
class JoinLevels(keras.layers.Concatenate):
    """Joins lists (batch, n, values) of several levels along n, and remembers their anchors.

    A detector's raw outputs mean nothing without its anchors: the layer that ends the list keeps
    what they are made from, so that a saved model can be read, trained on and exported.

    Args:
        anchors: what `keras_hybrid.tasks.detection.anchors` makes the anchors from, as a
            dictionary of numbers, strings and lists.

    Inputs: one (batch, n, values) a level. Output: (batch, sum of n, values).
    """

    def __init__(self, anchors: dict, **kwargs):
        super().__init__(**{**kwargs, "axis": 1})
        self.anchors = anchors

    def get_config(self):
        return {**super().get_config(), "anchors": self.anchors}


@dataclasses.dataclass(frozen=True)
class SSDAnchors:
    """SSD's anchors: per cell a small square, a larger one, and each aspect ratio both ways.

    Attributes:
        aspect_ratios: by level; 2 stands for boxes of 2:1 and of 1:2.
        strides: by level, in pixels; 0 for a level of one cell.
        minimum_scale: side of the first level's small square, as a share of the image's.
        maximum_scale: side that the last level's larger square has at most.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2.
    """

    aspect_ratios: tuple[tuple[float, ...], ...] = ((2, 3),) * 5 + ((2,),)
    strides: tuple[int, ...] = (16, 32, 64, 128, 256, 0)
    minimum_scale: float = 0.1
    maximum_scale: float = 1.05

    def __post_init__(self):
        if len(self.aspect_ratios) != len(self.strides) or not self.strides:
            raise ValueError(
                "As many levels of `aspect_ratios` as `strides` are expected. Received: "
                f"aspect_ratios={self.aspect_ratios}, strides={self.strides}"
            )
        if not 0 < self.minimum_scale < self.maximum_scale:
            raise ValueError(
                "`minimum_scale` must be over 0 and below `maximum_scale`. Received: "
                f"minimum_scale={self.minimum_scale}, maximum_scale={self.maximum_scale}"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Anchors a cell, by level."""
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)

    def boxes(self, height: int, width: int) -> np.ndarray:
        """All anchors of an image.

        Args:
            height: of the image, in pixels.
            width: likewise.

        Returns: (anchors, 4), float32: center x, y, width, height, as shares of the image's width
            and height; level by level, row by row, cell by cell.
        """
        scales = np.linspace(self.minimum_scale, self.maximum_scale, len(self.strides) + 1)
        found = []
        for index, (ratios, stride) in enumerate(
            zip(self.aspect_ratios, self.strides, strict=True)
        ):
            rows, columns = map_size(height, width, stride)
            small, large = scales[index], math.sqrt(scales[index] * scales[index + 1])
            sides = [(small, small), (large, large)]
            for ratio in ratios:
                root = math.sqrt(ratio)
                sides += [(small * root, small / root), (small / root, small * root)]
            y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
            centers = np.stack([(x + 0.5) / columns, (y + 0.5) / rows], axis=-1)
            found.append(_at_each_cell(centers, np.array(sides)))
        return np.clip(np.concatenate(found), 0, 1).astype("float32")


@dataclasses.dataclass(frozen=True)
class RetinaNetAnchors:
    """RetinaNet's anchors: per cell each aspect ratio in each of several sizes.

    Attributes:
        strides: by level, in pixels.
        base_size: side of a level's smallest square over its stride.
        scales: of the sides.
        aspect_ratios: height over width.

    Reference: RetinaNet (https://arxiv.org/abs/1708.02002), Section 4; not rounded, and centered
    on the cells' upper left corners, as MMDetection has it.
    """

    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    base_size: float = 4.0
    scales: tuple[float, ...] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    @property
    def counts(self) -> tuple[int, ...]:
        """Anchors a cell, by level."""
        return (len(self.scales) * len(self.aspect_ratios),) * len(self.strides)

    def boxes(self, height: int, width: int) -> np.ndarray:
        """All anchors of an image, as of `SSDAnchors.boxes`, but in pixels."""
        found = []
        for stride in self.strides:
            rows, columns = map_size(height, width, stride)
            sides = [
                (self.base_size * stride * scale / math.sqrt(ratio),
                 self.base_size * stride * scale * math.sqrt(ratio))
                for ratio in self.aspect_ratios
                for scale in self.scales
            ]  # fmt: skip
            y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
            centers = np.stack([x, y], axis=-1) * float(stride)
            found.append(_at_each_cell(centers, np.array(sides)))
        return np.concatenate(found).astype("float32")


Anchors = SSDAnchors | RetinaNetAnchors
_KINDS = {"ssd": SSDAnchors, "retinanet": RetinaNetAnchors}


def map_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of a level; a stride of 0 stands for one cell."""
    return (-(-height // stride), -(-width // stride)) if stride else (1, 1)


def to_config(anchors: Anchors) -> dict:
    """Anchors as a layer keeps them: a dictionary of numbers, strings and lists."""
    kind = next(kind for kind, known in _KINDS.items() if isinstance(anchors, known))
    fields = {
        key: [list(x) if isinstance(x, tuple) else x for x in value]
        if isinstance(value, tuple)
        else value
        for key, value in vars(anchors).items()
    }
    return {"kind": kind, **fields}


def from_config(config: dict) -> Anchors:
    """The anchors of a dictionary of `to_config`.

    Raises:
        ValueError: for another kind of anchors.
    """
    fields = dict(config)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"Anchors of one of {tuple(_KINDS)} are expected. Received: {config}")
    return _KINDS[kind](
        **{
            key: tuple(tuple(x) if isinstance(x, list) else x for x in value)
            if isinstance(value, list)
            else value
            for key, value in fields.items()
        }
    )


def anchors_of(model: keras.Model) -> Anchors:
    """The anchors of a detector, just built or loaded.

    Raises:
        ValueError: for a model that is no detector of this package.
    """
    for layer in model.layers:
        if isinstance(layer, JoinLevels):
            return from_config(layer.anchors)
    raise ValueError(
        "A detector of this package is expected, as `keras_hybrid.ssdlite` or "
        f"`keras_hybrid.retinanet` builds them. Received: model={model.name}"
    )


def check_maps(anchors: Anchors, image, maps) -> None:
    """Raises a ValueError where a network's maps are not of the size that anchors assume.

    Args:
        anchors: of the detector.
        image: the input's Keras tensor.
        maps: by level; sizes that are not known are not checked.
    """
    height, width = image.shape[1:3]
    for x, stride in zip(maps, anchors.strides, strict=True):
        if None in (height, width):
            return
        expected = map_size(height, width, stride)
        if tuple(x.shape[1:3]) != expected:
            raise ValueError(
                f"A map of stride {stride} must be {expected} cells, the image's size over the "
                "stride, rounded up: anchors assume it. Take another size of the image. Received: "
                f"an image of {(height, width)} with a map of {tuple(x.shape[1:3])}"
            )


def _at_each_cell(centers, sides):
    """Centers (rows, columns, 2) and sides (n, 2) -> (rows * columns * n, 4)."""
    rows, columns, _ = centers.shape
    shape = (rows, columns, len(sides), 2)
    boxes = [np.broadcast_to(centers[:, :, None], shape), np.broadcast_to(sides, shape)]
    return np.concatenate(boxes, axis=-1).reshape(-1, 4)  # (anchors, 4)
