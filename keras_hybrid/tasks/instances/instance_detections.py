"""From the heads' outputs for regions to the few objects that are shown, and their masks."""

import math

import keras
from keras import ops

from keras_hybrid.tasks.detection.box_coder import BoxCoder
from keras_hybrid.tasks.instances.region_proposals import clipped
from keras_hybrid.tasks.instances.suppression import not_suppressed

SIZE_LIMIT = math.log(1000 / 16)
CODER = BoxCoder(center_scale=0.1, size_scale=0.2, size_limit=SIZE_LIMIT)
NO_LABEL = -1
CANDIDATES = 2000


@keras.saving.register_keras_serializable("keras_hybrid")
class InstanceDetections(keras.layers.Layer):
    """Decodes the box head's outputs class by class and keeps the best boxes, a fixed number.

    Args:
        limit: number of boxes of the result.
        score_threshold: scores must be over it.
        overlap_threshold: a box that overlaps a better one of its class by more is dropped.
        candidates: pairs of a region and a class that are looked at, the best. The result is that
            of all pairs as long as `limit` of these stay, or no more are over the threshold.

    Inputs: regions (batch, n, 4); logits (batch, n, classes + 1), the background last; offsets
    (batch, n, 4 * classes); heights and widths of the images (batch, 2). Outputs: boxes
    (batch, limit, 4), corners in pixels, the best first, then zeros; scores (batch, limit), 0
    where there is no box; labels (batch, limit), int32, -1 there.

    Raises:
        ValueError: for a number below 1, or a threshold that is none.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3.1, "Inference".
    """

    def __init__(
        self,
        limit: int = 100,
        score_threshold: float = 0.05,
        overlap_threshold: float = 0.5,
        candidates: int = CANDIDATES,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        thresholds = (score_threshold, overlap_threshold)
        if min(limit, candidates) < 1 or not all(0 <= x <= 1 for x in thresholds):
            raise ValueError(
                "`limit` and `candidates` must be 1 or more, thresholds from 0 to 1. Received: "
                f"{limit=}, {candidates=}, {score_threshold=}, {overlap_threshold=}"
            )
        self.limit = limit
        self.score_threshold = score_threshold
        self.overlap_threshold = overlap_threshold
        self.candidates = candidates

    def call(self, inputs):
        regions, logits, offsets, sizes = [ops.stop_gradient(x) for x in inputs]
        count, classes = regions.shape[1], logits.shape[-1] - 1
        scores = ops.softmax(logits, axis=-1)[..., :-1]
        real = ops.all(regions[..., 2:] > regions[..., :2], axis=-1)[..., None]
        scores = ops.where(real & (scores > self.score_threshold), scores, 0.0)
        pairs = max(min(self.candidates, count * classes), self.limit)
        scores = ops.reshape(scores, (-1, count * classes))
        scores = ops.pad(scores, ((0, 0), (0, max(0, pairs - count * classes))))
        scores, best = ops.top_k(scores, pairs)
        best = ops.cast(ops.where(scores > 0, best, 0), "int32")
        labels = best % classes
        offsets = ops.reshape(offsets, (-1, count * classes, 4))
        offsets = ops.take_along_axis(offsets, best[..., None], axis=1)
        regions = ops.take_along_axis(regions, (best // classes)[..., None], axis=1)
        boxes = clipped(CODER.decode(offsets, centers(regions)), sizes)
        stays = not_suppressed(boxes, scores > 0, self.overlap_threshold, labels)
        scores, best = ops.top_k(ops.where(stays, scores, 0.0), self.limit)
        there = scores > 0
        boxes = ops.take_along_axis(boxes, best[..., None], axis=1)
        labels = ops.take_along_axis(labels, best, axis=1)
        boxes = ops.where(there[..., None], boxes, 0.0)
        return boxes, scores, ops.where(there, ops.cast(labels, "int32"), NO_LABEL)

    def compute_output_spec(self, inputs):
        batch = inputs[0].shape[0]
        return (
            keras.KerasTensor((batch, self.limit, 4), "float32"),
            keras.KerasTensor((batch, self.limit), "float32"),
            keras.KerasTensor((batch, self.limit), "int32"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "limit": self.limit,
            "score_threshold": self.score_threshold,
            "overlap_threshold": self.overlap_threshold,
            "candidates": self.candidates,
        }


@keras.saving.register_keras_serializable("keras_hybrid")
class FoldRegions(keras.layers.Layer):
    """(batch, n, h, w, C) -> (batch * n, h, w, C): each region as an image of its own."""

    def call(self, x):
        return ops.reshape(x, (-1, *x.shape[2:]))

    def compute_output_shape(self, input_shape):
        batch, count = input_shape[:2]
        known = None not in (batch, count)
        return (batch * count if known else None, *input_shape[2:])


@keras.saving.register_keras_serializable("keras_hybrid")
class MaskOfLabel(keras.layers.Layer):
    """Of the masks of all classes those of each object's own, from 0 to 1.

    Inputs: logits (batch * n, h, w, classes), labels (batch, n). Output: (batch, n, h, w); 0 where
    there is no label.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        logits, labels = inputs
        masks = ops.sigmoid(logits_of_label(logits, labels))
        return ops.where((labels >= 0)[..., None, None], masks, 0.0)

    def compute_output_shape(self, input_shape):
        logits, labels = input_shape
        return (*labels, *logits[1:3])


def logits_of_label(logits, labels):
    """(batch * n, h, w, classes) and (batch, n) -> (batch, n, h, w)."""
    height, width, classes = logits.shape[1:]
    logits = ops.reshape(logits, (-1, labels.shape[1], height, width, classes))
    place = ops.maximum(ops.cast(labels, "int32"), 0)[:, :, None, None, None]
    place = ops.tile(place, (1, 1, height, width, 1))
    return ops.take_along_axis(logits, place, axis=-1)[..., 0]  # (batch, n, h, w)


def centers(boxes):
    """Corners (..., 4) -> centers and sizes (..., 4)."""
    return ops.concatenate(
        [(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1
    )
