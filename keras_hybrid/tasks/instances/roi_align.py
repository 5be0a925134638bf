"""RoIAlign: what a map shows inside of boxes, in a few bins each, by two matrix products a box.

A bin is the mean of bilinear samples on a grid that follows the box's size, so that their number
differs from box to box. Bilinear samples on a grid are separable: the bins of a box are
`rows @ map @ columns`, with what each bin takes of each row and of each column. That needs no
operator of its own, is exact, and runs wherever matrices are multiplied.
"""

import keras
from keras import ops

from keras_hybrid.tasks.detection.matching import area

FINEST_SCALE = 56  # side of the smallest box of the second level, in pixels
# Samples are more than half a pixel apart where there are several, so that so many at most are
# within a pixel of a row; and one more for rounding.
_NEAR = 5
_LARGEST_PRODUCT = 2**26  # numbers at once, of the boxes' rows; more boxes are cut into pieces


def bin_weights(start, end, bins: int, size):
    """What each bin of an interval takes of each pixel along one axis.

    Args:
        start: (...,), where the intervals start; pixel i's center is at i.
        end: (...,), likewise; an interval that ends before it starts is empty.
        bins: of equal length, of each interval.
        size: number of pixels.

    Returns: (..., bins, size): rows that sum to 1, to less for a bin that leaves the map by more
        than a pixel, and to 0 for an interval without length.
    """
    length = ops.maximum(end - start, 0.0)[..., None, None] / bins
    count = ops.ceil(length)  # samples a bin
    step = ops.where(length > 0, length, 1.0) / ops.maximum(count, 1.0)
    first_bin = start[..., None, None]
    starts = first_bin + ops.reshape(ops.arange(bins, dtype="float32"), (bins, 1)) * length
    pixels = ops.cast(ops.arange(size), "float32")  # (size,)
    last = ops.cast(size, "float32") - 1
    # The first sample that is within a pixel of this one.
    nearest = ops.ceil((pixels - 1 - starts) / step - 0.501)
    nearest = ops.clip(nearest, 0.0, ops.maximum(count - 1, 0.0))
    total = 0.0
    for offset in range(_NEAR):
        number = nearest + offset
        place = starts + (number + 0.5) * step
        counted = (number < count) & (place >= -1) & (place <= last + 1)
        place = ops.clip(place, 0.0, last)
        near = ops.maximum(1 - ops.abs(place - pixels), 0.0)
        total = total + ops.where(counted, near, 0.0)
    return total / ops.maximum(count, 1.0)


def levels_of(boxes, count: int):
    """The level of each box: (..., 4), corners in pixels -> (...,), from 0 to `count` - 1.

    Reference: FPN (https://arxiv.org/abs/1612.03144), Equation 1.
    """
    level = ops.floor(ops.log2(ops.sqrt(area(boxes)) / FINEST_SCALE + 1e-6))
    return ops.cast(ops.clip(level, 0, count - 1), "int32")


@keras.saving.register_keras_serializable("keras_hybrid")
class RoIAlign(keras.layers.Layer):
    """Cuts boxes out of a pyramid's maps, each out of the map of its size.

    Args:
        bins: height and width of each result.
        strides: of the maps, in pixels, the finest first.

    Inputs: a list of the maps (batch, H, W, C) and boxes (batch, n, 4): corners in pixels of the
    image. Output: (batch, n, bins, bins, C); 0 for a box without an area. The boxes get no
    gradient.

    Raises:
        ValueError: for no bins or no strides.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3, "RoIAlign"; grids follow
    the boxes' sizes and half a pixel is taken off, as MMCV has it (`aligned=True`).
    """

    def __init__(self, bins: int, strides: tuple[int, ...] = (4, 8, 16, 32), **kwargs):
        # Half a pixel counts: boxes are never read in half precision.
        super().__init__(**{"dtype": "float32", **kwargs})
        if bins < 1 or not strides:
            raise ValueError(
                f"One bin and one stride at least are expected. Received: {bins=}, {strides=}"
            )
        self.bins = bins
        self.strides = tuple(strides)

    def call(self, inputs):
        *maps, boxes = inputs
        boxes = ops.stop_gradient(boxes)
        levels = levels_of(boxes, len(maps))
        found = 0.0
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            own = ops.cast(ops.equal(levels, level), "float32")
            found = found + self._cut(x, boxes / stride - 0.5, own)
        return found

    def _cut(self, x, boxes, own):
        """Of one level: boxes in its pixels, `own` 1 for its boxes and 0 for the others."""
        height, width = ops.shape(x)[1:3]
        count = boxes.shape[1]
        pieces = 1
        if isinstance(width, int) and count:
            pieces = -(-count * self.bins * width * x.shape[3] // _LARGEST_PRODUCT)
        size = -(-(count or 0) // pieces) if pieces > 1 else None
        if size is None:
            return self._bins(x, boxes, own, height, width)
        found = [
            self._bins(x, boxes[:, i : i + size], own[:, i : i + size], height, width)
            for i in range(0, count, size)
        ]
        return ops.concatenate(found, axis=1)

    def _bins(self, x, boxes, own, height, width):
        bins, channels = self.bins, x.shape[3]
        count = ops.shape(boxes)[1]
        rows = bin_weights(boxes[..., 1], boxes[..., 3], bins, height)  # (batch, n, bins, H)
        rows = rows * own[..., None, None]
        columns = bin_weights(boxes[..., 0], boxes[..., 2], bins, width)  # (batch, n, bins, W)
        x = ops.reshape(x, (-1, height, width * channels))
        x = ops.matmul(ops.reshape(rows, (-1, count * bins, height)), x)
        x = ops.reshape(x, (-1, bins, width, channels))  # (batch * n, bins, W, C)
        columns = ops.reshape(columns, (-1, 1, bins, width))
        x = ops.matmul(columns, x)  # (batch * n, bins, bins, C)
        return ops.reshape(x, (-1, count, bins, bins, channels))

    def compute_output_shape(self, input_shape):
        maps, boxes = input_shape[:-1], input_shape[-1]
        return (boxes[0], boxes[1], self.bins, self.bins, maps[0][3])

    def get_config(self):
        return {**super().get_config(), "bins": self.bins, "strides": list(self.strides)}
