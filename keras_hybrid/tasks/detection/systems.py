"""The detection systems: what a network's raw outputs mean, how they are read and trained on."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_hybrid.tasks.detection.anchors import Anchors, SSDAnchors, anchors_of, map_size
from keras_hybrid.tasks.detection.box_coder import BoxCoder
from keras_hybrid.tasks.detection.loss import retinanet_loss, ssd_loss
from keras_hybrid.tasks.detection.post_processing import SelectionRule


@dataclass(frozen=True)
class DetectionSystem:
    """One way to detect objects from anchors.

    Attributes:
        name: of the system.
        coder: of offsets from anchors.
        loss: function of boxes, labels, outputs, anchors and coder.
        shares: whether anchors and boxes are shares of the image's sides; else they are pixels.
        background: whether the first class is the background, and classes exclude each other.
        clips_first: whether boxes are clipped to the image before the selection, or after it.
        keeps_aspect: whether images are padded to the input's size, or stretched.
        rule: how detections are chosen.
        earlier_rule: how the authors' first release chose them; None for the same.
    """

    name: str
    coder: BoxCoder
    loss: Callable[..., dict]
    shares: bool
    background: bool
    clips_first: bool
    keeps_aspect: bool
    rule: SelectionRule
    earlier_rule: SelectionRule | None = None

    def scores(self, logits):
        """Logits (..., n) -> scores of the classes, without the background's."""
        if self.background:
            return ops.softmax(logits, axis=-1)[..., 1:]
        return ops.sigmoid(logits)


SSD = DetectionSystem(
    name="ssd",
    coder=BoxCoder(center_scale=0.1, size_scale=0.2),
    loss=ssd_loss,
    shares=True,
    background=True,
    clips_first=False,
    keeps_aspect=False,
    rule=SelectionRule(0.01, 0.5, candidates=400, limit=200),
    earlier_rule=SelectionRule(0.01, 0.5, candidates=None, class_limit=200),
)
RETINANET = DetectionSystem(
    name="retinanet",
    coder=BoxCoder(center_scale=1.0, size_scale=1.0, size_limit=math.log(1000 / 16)),
    loss=retinanet_loss,
    shares=False,
    background=False,
    clips_first=True,
    keeps_aspect=True,
    rule=SelectionRule(0.05, 0.5, candidates=1000, of_each="level", limit=100),
)


def system_of(model: keras.Model) -> DetectionSystem:
    """The system of a detector, just built or loaded.

    Raises:
        ValueError: for a model that is no detector of this package.
    """
    return SSD if isinstance(anchors_of(model), SSDAnchors) else RETINANET


def system_named(name: str) -> DetectionSystem:
    """The system of a name, as a file's record has it.

    Raises:
        ValueError: for an unknown one.
    """
    known = {system.name: system for system in (SSD, RETINANET)}
    if name not in known:
        raise ValueError(f"One of the systems {tuple(known)} is expected. Received: {name!r}")
    return known[name]


@functools.lru_cache(maxsize=8)
def anchor_boxes(anchors: Anchors, height: int, width: int) -> np.ndarray:
    """`anchors.boxes`, remembered: they are the same for every image of a size."""
    return anchors.boxes(height, width)


def level_sizes(anchors: Anchors, height: int, width: int) -> tuple[int, ...]:
    """How many anchors each level of an image has."""
    return tuple(
        math.prod(map_size(height, width, stride)) * count
        for stride, count in zip(anchors.strides, anchors.counts, strict=True)
    )
