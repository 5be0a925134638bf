"""Training of detectors with `compile` and `fit`, on any backend."""

import keras
from keras import ops

from keras_hybrid.tasks.detection.anchors import anchors_of
from keras_hybrid.tasks.detection.steps_by_size import StepsBySize, known_size
from keras_hybrid.tasks.detection.systems import anchor_boxes, system_of


class DetectionTraining(StepsBySize, keras.Model):
    """A view of a detector that has its system's loss: what is compiled and fitted.

    It shares the detector's layers. Save the detector, not the view.

    Args:
        model: a detector of this package; where it takes images of any size, those of a batch have
            one, and batches a few.
        box_weight: factor on the offsets' part of the loss.
        name: of the view.

    Compile it with an optimizer and no loss. Fit it on images and padded lists of objects, as
    `keras_hybrid.tasks.detection.objects.padded` makes them: {"boxes": (batch, m, 4), corners in
    pixels of the input, "labels": (batch, m), -1 where there is no object}. Boxes without an area
    count nothing. `box_loss` and `class_loss` are shown beside the loss.

    Raises:
        ValueError: for a model that is no detector, or other targets.
    """

    def __init__(self, model: keras.Model, box_weight: float = 1.0, name: str | None = None):
        system, anchors = system_of(model), anchors_of(model)
        super().__init__(model.inputs, model.output, name=name or f"{model.name}_training")
        self.images_size = tuple(model.input_shape[1:3])
        self.system = system
        self.anchors = anchors
        self.box_weight = box_weight
        self.parts = {kind: keras.metrics.Mean(f"{kind}_loss") for kind in ("box", "class")}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(y, dict) or not {"boxes", "labels"} <= set(y):
            raise ValueError(
                'Targets must be a dict of "boxes" (batch, m, 4) and "labels" (batch, m). '
                f"Received: {sorted(y) if isinstance(y, dict) else type(y).__name__}"
            )
        if sample_weight is not None:
            raise ValueError("Detectors are trained without sample weights. Received: some")
        height, width = known_size(x)
        boxes = ops.cast(y["boxes"], "float32")
        if self.system.shares:
            boxes = boxes / ops.convert_to_tensor([width, height, width, height], "float32")
        found = self.system.loss(
            boxes, y["labels"], y_pred, anchor_boxes(self.anchors, height, width), self.system.coder
        )
        self.parts["box"].update_state(found["boxes"])
        self.parts["class"].update_state(found["classes"])
        loss = self.box_weight * found["boxes"] + found["classes"]
        return sum(self.losses, loss) / devices_in_step()

    def get_config(self):
        raise ValueError(
            "A view for training is not saved: save the detector that it was made of. "
            f"Received: {self.name}"
        )


def devices_in_step():
    """Over how many devices `tf.distribute` sums gradients; each divides by its own positives."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
