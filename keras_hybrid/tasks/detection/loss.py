"""What detectors are trained on: SSD's loss and RetinaNet's, and their parts.

Objects come as padded lists: boxes (batch, m, 4), corners in pixels of the input, and labels
(batch, m), -1 where there is no object.
"""

from keras import ops

from keras_hybrid.tasks.detection.box_coder import BoxCoder, corners
from keras_hybrid.tasks.detection.matching import IGNORED, match_retinanet, match_ssd

NEGATIVES_PER_POSITIVE = 3
FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0


def smooth_l1(difference, beta: float = 1.0):
    """Element by element: square over 2 beta within beta of 0, linear beyond.

    Reference: Fast R-CNN (https://arxiv.org/abs/1504.08083), Equation 3.
    """
    size = ops.abs(difference)
    return ops.where(size < beta, size * size / (2 * beta), size - beta / 2)


def sigmoid_focal_loss(targets, logits, alpha: float = FOCAL_ALPHA, gamma: float = FOCAL_GAMMA):
    """Binary cross-entropy, element by element, less of it the surer the network is.

    Args:
        targets: 0 or 1, of the logits' shape.
        logits: before the sigmoid.
        alpha: weight of the targets 1; those of 0 have 1 - alpha.
        gamma: exponent of the factor on the loss, which is how far the probability is off.

    Reference: RetinaNet (https://arxiv.org/abs/1708.02002), Equation 5.
    """
    entropy = ops.maximum(logits, 0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))
    probability = ops.sigmoid(logits)
    off = targets * (1 - probability) + (1 - targets) * probability
    weight = targets * alpha + (1 - targets) * (1 - alpha)
    return weight * off**gamma * entropy


def hard_negatives(losses, positive, ratio: int = NEGATIVES_PER_POSITIVE):
    """The anchors of no object that the network takes for one most firmly.

    Args:
        losses: (batch, n), of taking each anchor for background.
        positive: (batch, n), truth values: anchors that have an object.
        ratio: how many of an image per positive of the same image.

    Returns: (batch, n), truth values.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2, "Hard negative mining".
    """
    count = ratio * ops.sum(ops.cast(positive, "int32"), axis=1, keepdims=True)
    losses = ops.where(positive, float("-inf"), losses)
    rank = ops.argsort(ops.argsort(-losses, axis=1), axis=1)
    return (ops.cast(rank, "int32") < count) & ~positive


def ssd_loss(boxes, labels, outputs: dict, anchors, coder: BoxCoder) -> dict:
    """SSD's loss of a batch.

    Args:
        boxes: (batch, m, 4), corners, as shares of the image's width and height.
        labels: (batch, m), from 0; -1 for none.
        outputs: "boxes" (batch, n, 4) and "classes" (batch, n, 1 + classes), the background first.
        anchors: (n, 4), centers and sizes, in the same unit as `boxes`.
        coder: of the offsets.

    Returns: "boxes" and "classes", both over the number of the batch's positives.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Equation 1.
    """
    anchors = ops.convert_to_tensor(anchors, "float32")
    found = match_ssd(boxes, labels, corners(anchors))
    positive = found >= 0
    regression = _box_loss(boxes, outputs, found, anchors, coder, smooth_l1)
    classes = ops.where(positive, 1 + _labels_of(labels, found), 0)
    logits = ops.cast(outputs["classes"], "float32")
    background = -ops.log_softmax(logits, axis=-1)[..., 0]
    counted = positive | hard_negatives(ops.stop_gradient(background), positive)
    entropy = ops.sparse_categorical_crossentropy(classes, logits, from_logits=True)
    positives = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1)
    return {
        "boxes": ops.sum(regression) / positives,
        "classes": ops.sum(ops.where(counted, entropy, 0)) / positives,
    }


def retinanet_loss(boxes, labels, outputs: dict, anchors, coder: BoxCoder) -> dict:
    """RetinaNet's loss of a batch: focal loss of the classes, L1 of the offsets.

    Args:
        boxes: (batch, m, 4), corners, in pixels.
        labels: (batch, m), from 0; -1 for none.
        outputs: "boxes" (batch, n, 4) and "classes" (batch, n, classes), before the sigmoid.
        anchors: (n, 4), centers and sizes, in pixels.
        coder: of the offsets.

    Returns: "boxes" and "classes", both over the positives of the images, 1 at least of each.

    Reference: RetinaNet (https://arxiv.org/abs/1708.02002), Section 4.1. Differs from the paper:
    L1, not smooth L1, as MMDetection trains.
    """
    anchors = ops.convert_to_tensor(anchors, "float32")
    found = match_retinanet(boxes, labels, corners(anchors))
    positive = found >= 0
    regression = _box_loss(boxes, outputs, found, anchors, coder, ops.abs)
    logits = ops.cast(outputs["classes"], "float32")
    classes = ops.where(positive, _labels_of(labels, found), -1)
    targets = ops.one_hot(classes, logits.shape[-1], dtype="float32")  # -1: all 0
    focal = ops.sum(sigmoid_focal_loss(targets, logits), axis=-1)
    positives = ops.sum(ops.maximum(ops.sum(ops.cast(positive, "float32"), axis=1), 1))
    return {
        "boxes": ops.sum(regression) / positives,
        "classes": ops.sum(ops.where(ops.equal(found, IGNORED), 0, focal)) / positives,
    }


def _box_loss(boxes, outputs, found, anchors, coder, distance):
    """(batch, n): the distance of each positive's offsets from its object's; else 0."""
    positive = (found >= 0)[..., None]
    boxes = ops.pad(ops.cast(boxes, "float32"), ((0, 0), (0, 1), (0, 0)))
    matched = ops.take_along_axis(boxes, ops.maximum(found, 0)[..., None], axis=1)
    # The others are their own objects: the logarithm of no area would be infinite.
    matched = ops.where(positive, matched, corners(anchors)[None])
    offsets = ops.cast(outputs["boxes"], "float32")
    difference = offsets - coder.encode(matched, anchors[None])
    return ops.sum(ops.where(positive, distance(difference), 0), axis=-1)


def _labels_of(labels, found):
    """(batch, n): the label of each anchor's object; any where there is none."""
    labels = ops.pad(ops.cast(labels, "int32"), ((0, 0), (0, 1)), constant_values=0)
    return ops.take_along_axis(labels, ops.maximum(found, 0), axis=1)
