"""From the region proposal network's maps to the boxes that the heads look into."""

import math

import keras
from keras import ops

from keras_hybrid.tasks.detection.anchors import RetinaNetAnchors
from keras_hybrid.tasks.detection.box_coder import BoxCoder
from keras_hybrid.tasks.instances.suppression import not_suppressed

STRIDES = (4, 8, 16, 32, 64)
ASPECT_RATIOS = (0.5, 1.0, 2.0)
BASE_SIZE = 8.0  # side of an anchor over its level's stride
CODER = BoxCoder(center_scale=1.0, size_scale=1.0, size_limit=math.log(1000 / 16))
NONE = -1.0  # score of a place without a box


def region_anchors() -> RetinaNetAnchors:
    """The anchors of Mask R-CNN: one size a level, three shapes."""
    return RetinaNetAnchors(STRIDES, BASE_SIZE, (1.0,), ASPECT_RATIOS)


@keras.saving.register_keras_serializable("keras_hybrid")
class ImageSize(keras.layers.Layer):
    """(batch, H, W, C) -> (batch, 2): height and width, so that boxes can end at the image's edge.

    A model cut behind it takes other sizes, those of the pictures in a padded batch.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, x):
        size = ops.cast(ops.stack(ops.shape(x)[1:3]), "float32")
        return ops.zeros_like(x[:, 0, 0, :2]) + size

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 2)


@keras.saving.register_keras_serializable("keras_hybrid")
class RegionProposals(keras.layers.Layer):
    """The best boxes of the region proposal network, a fixed number.

    Of each level the best `candidates` are decoded, ended at the image's edge, and suppressed by
    better ones of their level; the best `limit` of all stay.

    Args:
        limit: number of boxes of the result.
        candidates: of each level.
        overlap_threshold: of the suppression.

    Inputs: the levels' logits (batch, H, W, 3), then their offsets (batch, H, W, 12), then the
    images' heights and widths (batch, 2). Output: boxes (batch, limit, 4), corners in pixels,
    the best first, then zeros where there are fewer; and their scores (batch, limit), -1 there.

    Raises:
        ValueError: for a number below 1, or a threshold that is none.

    Reference: Faster R-CNN (https://arxiv.org/abs/1506.01497), Section 3.1; per level as in FPN
    (https://arxiv.org/abs/1612.03144), Section 4.1.
    """

    def __init__(
        self,
        limit: int = 1000,
        candidates: int = 1000,
        overlap_threshold: float = 0.7,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        if min(limit, candidates) < 1 or not 0 <= overlap_threshold <= 1:
            raise ValueError(
                "`limit` and `candidates` must be 1 or more, `overlap_threshold` from 0 to 1. "
                f"Received: {limit=}, {candidates=}, {overlap_threshold=}"
            )
        self.limit = limit
        self.candidates = candidates
        self.overlap_threshold = overlap_threshold

    def call(self, inputs):
        *maps, sizes = [ops.stop_gradient(x) for x in inputs]
        half = len(maps) // 2
        boxes, scores = [], []
        strides = region_anchors().strides
        for logits, offsets, stride in zip(maps[:half], maps[half:], strides, strict=True):
            found, score = self._of_level(logits, offsets, stride, sizes)
            valid = ops.all(found[..., 2:] > found[..., :2], axis=-1) & (score > NONE)
            stays = not_suppressed(found, valid, self.overlap_threshold)
            boxes.append(found)
            scores.append(ops.where(stays, score, NONE))
        boxes, scores = ops.concatenate(boxes, axis=1), ops.concatenate(scores, axis=1)
        total = scores.shape[1]
        if total < self.limit:
            more = self.limit - total
            scores = ops.pad(scores, ((0, 0), (0, more)), constant_values=NONE)
            boxes = ops.pad(boxes, ((0, 0), (0, more), (0, 0)))
        scores, best = ops.top_k(scores, self.limit)
        boxes = ops.take_along_axis(boxes, best[..., None], axis=1)
        boxes = ops.where((scores > NONE)[..., None], boxes, 0.0)
        return boxes, scores

    def _of_level(self, logits, offsets, stride, sizes):
        """The best of a level, (batch, n, 4) and (batch, n), best first."""
        height, width = ops.shape(logits)[1:3]
        count = self.candidates
        if all(isinstance(side, int) for side in (height, width)):
            count = min(count, height * width * len(ASPECT_RATIOS))
        logits = ops.reshape(logits, (-1, height * width * len(ASPECT_RATIOS)))
        offsets = ops.reshape(offsets, (-1, height * width * len(ASPECT_RATIOS), 4))
        scores = ops.sigmoid(logits)
        if not isinstance(height * width, int):  # there may be fewer anchors
            scores = ops.pad(scores, ((0, 0), (0, count)), constant_values=NONE)
        scores, best = ops.top_k(scores, count)
        best = ops.cast(ops.where(scores > NONE, best, 0), "int32")
        offsets = ops.take_along_axis(offsets, best[..., None], axis=1)
        cell, kind = best // len(ASPECT_RATIOS), best % len(ASPECT_RATIOS)
        centers = [ops.cast(cell % width, "float32"), ops.cast(cell // width, "float32")]
        roots = ops.sqrt(ops.convert_to_tensor(ASPECT_RATIOS, "float32"))
        root = ops.take(roots, kind)
        side = BASE_SIZE * stride
        anchors = ops.stack(
            [centers[0] * stride, centers[1] * stride, side / root, side * root], axis=-1
        )
        return clipped(CODER.decode(offsets, anchors), sizes), scores

    def compute_output_shape(self, input_shape):
        batch = input_shape[0][0]
        return (batch, self.limit, 4), (batch, self.limit)

    def get_config(self):
        return {
            **super().get_config(),
            "limit": self.limit,
            "candidates": self.candidates,
            "overlap_threshold": self.overlap_threshold,
        }


def clipped(boxes, sizes):
    """Boxes (batch, n, 4) inside of images of heights and widths (batch, 2)."""
    limits = ops.stack([sizes[:, 1], sizes[:, 0]] * 2, axis=-1)[:, None]  # (batch, 1, 4)
    return ops.minimum(ops.maximum(boxes, 0.0), limits)
