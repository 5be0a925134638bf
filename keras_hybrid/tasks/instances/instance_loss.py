"""What Mask R-CNN is trained on: of the regions' network, of the boxes and of the masks.

Objects come as padded lists: boxes (batch, m, 4), corners in pixels of the input, labels
(batch, m), -1 where there is no object, and masks (batch, m, H, W).
"""

from keras import ops

from keras_hybrid.tasks.detection.box_coder import corners
from keras_hybrid.tasks.detection.matching import match_retinanet
from keras_hybrid.tasks.instances import instance_detections, region_proposals
from keras_hybrid.tasks.instances.instance_detections import centers, logits_of_label
from keras_hybrid.tasks.instances.mask_targets import mask_targets
from keras_hybrid.tasks.instances.sampling import sample

ANCHORS, POSITIVE_ANCHORS = 256, 128  # of an image, drawn


def region_loss(objects: dict, logits, offsets, anchors, draws) -> dict:
    """The region proposal network's loss of a batch.

    Args:
        objects: "boxes" and "labels".
        logits: (batch, anchors).
        offsets: (batch, anchors, 4).
        anchors: (anchors, 4), centers and sizes in pixels.
        draws: (batch, anchors), random numbers from 0 to 1: which anchors are drawn.

    Returns: "region_class" and "region_box", both over the number of anchors drawn.

    Reference: Faster R-CNN (https://arxiv.org/abs/1506.01497), Section 3.1.2; L1 in place of smooth
    L1, as MMDetection trains.
    """
    anchors = ops.convert_to_tensor(anchors, "float32")
    boxes = ops.cast(objects["boxes"], "float32")
    found = match_retinanet(
        boxes, objects["labels"], corners(anchors), positive=0.7, negative=0.3, least_claim=0.3
    )
    places, positive, negative = sample(
        found >= 0, ops.equal(found, -1), draws, ANCHORS, POSITIVE_ANCHORS
    )
    logits = ops.take_along_axis(ops.cast(logits, "float32"), places, axis=1)
    targets = ops.cast(positive, "float32")
    entropy = ops.softplus(logits) - logits * targets
    own = ops.maximum(ops.take_along_axis(found, places, axis=1), 0)
    anchors = ops.take(anchors, places, axis=0)  # (batch, k, 4)
    difference = _distance(
        ops.take_along_axis(ops.cast(offsets, "float32"), places[..., None], axis=1),
        boxes, own, anchors, positive, region_proposals.CODER,
    )  # fmt: skip
    drawn = positive | negative
    count = ops.maximum(ops.sum(ops.cast(drawn, "float32")), 1.0)
    return {
        "region_class": ops.sum(ops.where(drawn, entropy, 0.0)) / count,
        "region_box": ops.sum(difference) / count,
    }


def drawn_regions(objects: dict, regions, draws, count: int, most_positive: int) -> dict:
    """The regions that the heads are trained on.

    Args:
        objects: "boxes" and "labels".
        regions: (batch, n, 4), proposals; those without an area do not count.
        draws: (batch, m + n), random numbers from 0 to 1.
        count: regions of an image that are drawn, at most.
        most_positive: of them, at most.

    Returns: "regions" (batch, k, 4), the positive ones first; "positive" and "negative"
        (batch, k), truth values; "objects" (batch, k), the place of each region's object, 0 where
        it has none; "labels" (batch, k), -1 there.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3.1, "Training".
    """
    boxes, labels = ops.cast(objects["boxes"], "float32"), ops.cast(objects["labels"], "int32")
    there = labels >= 0
    own = ops.where(there[..., None], boxes, 0.0)
    regions = ops.stop_gradient(ops.concatenate([own, regions], axis=1))  # objects are regions
    real = ops.all(regions[..., 2:] > regions[..., :2], axis=-1)
    found = match_retinanet(boxes, labels, regions, positive=0.5, negative=0.5, least_claim=0.5)
    places, positive, negative = sample(
        real & (found >= 0), real & (found < 0), draws, count, most_positive
    )
    found = ops.maximum(ops.take_along_axis(found, places, axis=1), 0)
    found = ops.where(positive, found, 0)
    return {
        "regions": ops.take_along_axis(regions, places[..., None], axis=1),
        "positive": positive,
        "negative": negative,
        "objects": found,
        "labels": ops.where(positive, ops.take_along_axis(labels, found, axis=1), -1),
    }


def box_loss(objects: dict, drawn: dict, logits, offsets) -> dict:
    """The box head's loss of a batch.

    Args:
        objects: "boxes".
        drawn: of `drawn_regions`.
        logits: (batch, k, classes + 1), the background last.
        offsets: (batch, k, 4 * classes).

    Returns: "class" and "box", both over the number of regions drawn.

    Reference: Fast R-CNN (https://arxiv.org/abs/1504.08083), Section 2.3; L1 in place of smooth L1.
    """
    logits = ops.cast(logits, "float32")
    classes = logits.shape[-1] - 1
    positive, labels = drawn["positive"], drawn["labels"]
    counted = positive | drawn["negative"]
    entropy = ops.sparse_categorical_crossentropy(
        ops.where(positive, labels, classes), logits, from_logits=True
    )
    offsets = ops.reshape(ops.cast(offsets, "float32"), (-1, logits.shape[1], classes, 4))
    place = ops.tile(ops.maximum(labels, 0)[..., None, None], (1, 1, 1, 4))
    offsets = ops.take_along_axis(offsets, place, axis=2)[:, :, 0]  # of each one's own class
    boxes = ops.cast(objects["boxes"], "float32")
    difference = _distance(
        offsets, boxes, drawn["objects"], centers(drawn["regions"]), positive,
        instance_detections.CODER,
    )  # fmt: skip
    count = ops.maximum(ops.sum(ops.cast(counted, "float32")), 1.0)
    return {
        "class": ops.sum(ops.where(counted, entropy, 0.0)) / count,
        "box": ops.sum(difference) / count,
    }


def mask_loss(objects: dict, drawn: dict, logits, width: int | None = None):
    """The mask head's loss of a batch: of the drawn regions' own classes, the positive ones' mean.

    Args:
        objects: "masks".
        drawn: of `drawn_regions`, cut to the first k places, which hold all positives.
        logits: (batch * k, h, w, classes).
        width: of the masks; None for that of "masks", which are not packed then.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3, "Mask Representation".
    """
    logits = logits_of_label(ops.cast(logits, "float32"), drawn["labels"])  # (batch, k, h, w)
    targets = mask_targets(
        objects["masks"], drawn["objects"], drawn["regions"], logits.shape[-1], width
    )
    entropy = ops.mean(ops.softplus(logits) - logits * targets, axis=(2, 3))
    count = ops.maximum(ops.sum(ops.cast(drawn["positive"], "float32")), 1.0)
    return ops.sum(ops.where(drawn["positive"], entropy, 0.0)) / count


def _distance(offsets, boxes, own, anchors, positive, coder):
    """(batch, k): L1 of each positive's offsets from its object's; else 0."""
    boxes = ops.take_along_axis(boxes, own[..., None], axis=1)
    # The others are an object of their own: the logarithm of no area would be infinite.
    boxes = ops.where(positive[..., None], boxes, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
    whole = ops.convert_to_tensor([0.5, 0.5, 1.0, 1.0])
    anchors = ops.where(positive[..., None], anchors, whole)
    difference = ops.abs(offsets - coder.encode(boxes, anchors))
    return ops.sum(ops.where(positive[..., None], difference, 0.0), axis=-1)
