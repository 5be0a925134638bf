"""Training of Mask R-CNN with `compile` and `fit`, on any backend."""

import keras
from keras import ops

from keras_hybrid.tasks.detection.detection_training import devices_in_step
from keras_hybrid.tasks.detection.steps_by_size import StepsBySize, known_size
from keras_hybrid.tasks.detection.systems import anchor_boxes
from keras_hybrid.tasks.instances.instance_loss import (
    box_loss,
    drawn_regions,
    mask_loss,
    region_loss,
)
from keras_hybrid.tasks.instances.parts import parts_of
from keras_hybrid.tasks.instances.region_proposals import RegionProposals, region_anchors

CANDIDATES = 2000  # of a level, in training
REGIONS, POSITIVE_REGIONS = 512, 128
PARTS = ("region_class", "region_box", "class", "box", "mask")


class InstanceTraining(StepsBySize, keras.Model):
    """A view of a Mask R-CNN that has its losses: what is compiled and fitted.

    It shares the network's layers. Save the network, not the view.

    Args:
        model: of `keras_hybrid.mask_rcnn`; where it takes images of any size, those of a batch have
            one, and batches a few.
        regions: of each image that the box head is trained on, at most.
        positive_regions: of them, at most: those that the mask head is trained on.
        candidates: of each level that regions are chosen from.
        seed: of the anchors and regions that are drawn.
        inference_mode: whether backbone and heads are run as in inference, as the authors train:
            batch norms' statistics stay the checkpoint's, while scale and offset learn, and
            regularization by random layers is off.
        name: of the view.

    Compile it with an optimizer and no loss. Fit it on images and padded lists of objects with
    masks, as `keras_hybrid.tasks.detection.objects.padded` makes them; of masks eight pixels of a
    row may be one number, the first the highest bit. Boxes without an area count nothing. Where
    pictures are padded, "sizes" (batch, 2) may say their heights and widths: regions end there.
    The five parts of the loss, all of weight 1, are shown beside it.

    Raises:
        ValueError: for a model that is none, or other targets.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3.1, "Training"; numbers are
    MMDetection's.
    """

    def __init__(
        self,
        model: keras.Model,
        regions: int = REGIONS,
        positive_regions: int = POSITIVE_REGIONS,
        candidates: int = CANDIDATES,
        seed: int = 0,
        inference_mode: bool = True,
        name: str | None = None,
    ):
        super().__init__(name=name or f"{model.name}_training")
        parts = parts_of(model)
        if not 0 < positive_regions <= regions:
            raise ValueError(
                "`positive_regions` must be 1 or more, and no more than `regions`. "
                f"Received: {regions=}, {positive_regions=}"
            )
        self.network = model
        self.first = parts.first
        self.heads = parts.box_head, parts.mask_head
        self.regions = RegionProposals(parts.regions.limit, candidates, name="regions")
        self.drawn = regions, positive_regions
        self.inference_mode = inference_mode
        self.images_size = parts.input_size
        self.seeds = keras.random.SeedGenerator(seed)
        self.parts = {kind: keras.metrics.Mean(f"{kind}_loss") for kind in PARTS}
        self.built = True

    def call(self, images, training=None):
        found = self.first(images, training=bool(training) and not self.inference_mode)
        # Drawn here: what happens in `compute_loss` has no random state on some backends.
        shape = (ops.shape(images)[0], len(_anchors(images)) + self.regions.limit)
        return {**found, "draws": keras.random.uniform(shape, seed=self.seeds)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(y, dict) or not {"boxes", "labels", "masks"} <= set(y):
            raise ValueError(
                'Targets must be a dict of "boxes" (batch, m, 4), "labels" (batch, m) and "masks" '
                f"(batch, m, H, W). Received: {sorted(y) if isinstance(y, dict) else type(y)}"
            )
        if sample_weight is not None:
            raise ValueError("Networks are trained without sample weights. Received: some")
        box_head, mask_head = self.heads
        logits, offsets, draws = (y_pred[key] for key in ("logits", "offsets", "draws"))
        if (sizes := y.get("sizes")) is None:
            size = ops.convert_to_tensor(known_size(x), "float32")
            sizes = ops.ones_like(logits[0][:, 0, 0, :2], "float32") * size
        sizes = ops.cast(sizes, "float32")
        regions, _ = self.regions([*logits, *offsets, sizes])
        boxes = _anchors(x)
        anchors = len(boxes)
        found = region_loss(
            y, _joined(logits, 1)[..., 0], _joined(offsets, 4), boxes, draws[:, :anchors]
        )
        # The objects are regions, too; they are drawn by numbers that anchors have used.
        again = draws[:, : y["labels"].shape[1] or ops.shape(y["labels"])[1]]
        draws = ops.concatenate([again, draws[:, anchors:]], axis=1)
        drawn = drawn_regions(y, regions, draws, *self.drawn)
        maps = y_pred["maps"]
        found |= box_loss(y, drawn, *box_head([*maps, drawn["regions"]]))
        first = {key: value[:, : self.drawn[1]] for key, value in drawn.items()}
        found["mask"] = mask_loss(y, first, mask_head([*maps, first["regions"]]), x.shape[2])
        for kind, value in found.items():
            self.parts[kind].update_state(value)
        return sum(self.losses, sum(found.values())) / devices_in_step()

    def get_config(self):
        raise ValueError(
            "A view for training is not saved: save the network that it was made of. "
            f"Received: {self.name}"
        )


def _anchors(images):
    return anchor_boxes(region_anchors(), *known_size(images))


def _joined(maps, values):
    """(batch, H, W, n * values) of each level -> (batch, all of them, values)."""
    flat = [
        ops.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3] // values, values)) for x in maps
    ]
    return ops.concatenate(flat, axis=1)
