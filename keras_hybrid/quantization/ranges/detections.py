"""Ranges of a detector's outputs: of what may be a detection, not of all anchors.

Nearly all anchors see no object. Their boxes were never trained, reach far beyond those of objects,
and are looked at by nobody; their logits reach down without end. Of 256 values few are left for
what detections are made of then.
"""

import math

import keras
import numpy as np

from keras_hybrid.keras_private import computed_from, producer
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.tasks.detection.systems import DetectionSystem, system_of

BELOW = 0.1  # of the least score that the published detections have: scores that nobody looks at
SEEN = 0.05  # score of an anchor whose box is looked at
# What is between heads and outputs; before anything else, a head in float, too, roundings are of
# other values.
MOVES = (keras.layers.Concatenate, keras.layers.Reshape, keras.layers.Identity)


class SeenDetections:
    """What calibration sees of a detector's outputs.

    Args:
        model: quantised, of the outputs "boxes" (batch, n, 4) and "classes" (batch, n, classes).
        system: that reads them.

    Attributes:
        watch: for `run_leanly`.
    """

    def __init__(self, model: keras.Model, system: DetectionSystem):
        self.model, self.system = model, system
        self.boxes = self.logits = None  # least and greatest value of what may be a detection
        self.lowest_best = math.inf  # least of the anchors' greatest logits
        self._values = {}
        self.watch = {
            id(model.output[name]): lambda value, name=name: self._values.update({name: value})
            for name in ("boxes", "classes")
        }

    def add(self):
        """Takes in the batch that was watched."""
        logits = np.asarray(self._values.pop("classes"), "float32")
        boxes = np.asarray(self._values.pop("boxes"), "float32")
        best = np.asarray(self.system.scores(logits)).max(-1)
        seen = boxes[best >= SEEN]
        if seen.size:
            self.boxes = _widened(self.boxes, float(seen.min()), float(seen.max()))
        self.logits = _widened(self.logits, float(logits.min()), float(logits.max()))
        self.lowest_best = min(self.lowest_best, float(logits.max(-1).min()))

    def set_ranges(self):
        """Sets the ranges of the roundings that the outputs went through last."""
        if self.boxes is not None:
            _narrow(self.model.output["boxes"], *self.boxes)
        if self.logits is not None:
            _narrow(self.model.output["classes"], self._least_logit(), self.logits[1])

    def _least_logit(self):
        """Below it, a class' score is less than a tenth of what detections have."""
        least = BELOW * self.system.rule.score_threshold
        if self.system.background:  # softmax: it is the distance from the greatest that counts
            return self.lowest_best + math.log(least)
        return math.log(least / (1 - least))


def seen_detections(model: keras.Model) -> SeenDetections | None:
    """A detector's; None for other models, and for a part of one that gives something else."""
    if not isinstance(model.output, dict) or not {"boxes", "classes"} <= set(model.output):
        return None
    try:
        return SeenDetections(model, system_of(model))
    except ValueError:
        return None


def _widened(range_, low, high):
    return (low, high) if range_ is None else (min(low, range_[0]), max(high, range_[1]))


def _narrow(output, low, high):
    """Lets the last roundings before an output reach no further."""
    for rounding in _last_roundings(output):
        if rounding.has_range and rounding.fixed_range is None:
            old = rounding.range
            rounding.set_range(max(low, old[0]), min(high, old[1]))


def _last_roundings(output: keras.KerasTensor) -> list[FakeQuantize]:
    """Roundings whose values are only moved until they are an output of a model."""
    found, tensors = {}, [output]
    while tensors:
        tensor = tensors.pop()
        operation = producer(tensor)
        if isinstance(operation, FakeQuantize):
            found[id(operation)] = operation
        elif isinstance(operation, MOVES):
            tensors += computed_from(tensor)
    return list(found.values())
