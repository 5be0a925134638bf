"""Which object each anchor answers for, if any: SSD's rule and RetinaNet's."""

from keras import ops

BACKGROUND = -1
IGNORED = -2


def overlaps(boxes, others, epsilon: float = 0.0):
    """Intersection over union of every box with every other one.

    Args:
        boxes: (..., n, 4), corners x1, y1, x2, y2.
        others: (..., m, 4), likewise.
        epsilon: added to the union.

    Returns: (..., n, m); 0 where neither has an area.
    """
    boxes, others = ops.expand_dims(boxes, -2), ops.expand_dims(others, -3)
    sides = ops.minimum(boxes[..., 2:], others[..., 2:]) - ops.maximum(
        boxes[..., :2], others[..., :2]
    )
    sides = ops.maximum(sides, 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = area(boxes) + area(others) - intersection + epsilon
    return ops.where(union > 0, intersection / ops.where(union > 0, union, 1), 0)


def area(boxes):
    """Area of corners (..., 4), 0 where right is left of left or bottom above top."""
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def match_ssd(boxes, labels, anchors, threshold: float = 0.5, epsilon: float = 1e-5):
    """SSD's rule: an anchor's best object from `threshold` on; each object claims its best anchor.

    Of two objects that claim one anchor, the later has it.

    Args:
        boxes: (batch, m, 4), corners, in the unit of the anchors.
        labels: (batch, m), integers; objects of a negative label or of no area do not count.
        anchors: (n, 4), corners.
        threshold: the overlap from which on an anchor is its object's without being claimed.
        epsilon: added to unions, as the authors do.

    Returns: (batch, n), integers: the object's place in `boxes`, or `BACKGROUND`.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2, "Matching strategy".
    """
    boxes, valid = _padded(boxes, labels)
    overlap = _masked(overlaps(boxes, anchors[None], epsilon), valid)  # (batch, m, n)
    best = ops.argmax(overlap, axis=1)  # of each anchor
    found = ops.where(ops.max(overlap, axis=1) >= threshold, best, BACKGROUND)
    favorite = ops.argmax(overlap, axis=2)[:, :, None]  # of each object
    claims = ops.equal(ops.arange(overlap.shape[2], dtype=favorite.dtype), favorite)
    return _with_claims(found, claims, valid)


def match_retinanet(
    boxes,
    labels,
    anchors,
    positive: float = 0.5,
    negative: float = 0.4,
    least_claim: float = 0.0,
):
    """RetinaNet's rule: an anchor's best object from `positive` on, none below `negative`.

    Besides, each object has every anchor that overlaps it most, however little; of several such
    objects the last. Anchors between the two thresholds that no object has are left out.

    Args and Returns: as of `match_ssd`, with `IGNORED` for anchors that are left out. `anchors`
    may also be (batch, n, 4), others for each image; `least_claim` is the overlap from which on an
    object claims its best anchors.

    Reference: RetinaNet (https://arxiv.org/abs/1708.02002), Section 4, "Anchors"; the claims are
    MMDetection's.
    """
    boxes, valid = _padded(boxes, labels)
    anchors = anchors if len(anchors.shape) == 3 else anchors[None]
    overlap = _masked(overlaps(boxes, anchors), valid)  # (batch, m, n)
    most = ops.max(overlap, axis=1)
    best = ops.argmax(overlap, axis=1)
    found = ops.where(most >= positive, best, ops.where(most < negative, BACKGROUND, IGNORED))
    # Differs from MMDetection: an object that overlaps no anchor claims none, where it has all.
    claims = ops.equal(overlap, ops.max(overlap, axis=2, keepdims=True)) & (overlap > 0)
    claims = claims & (overlap >= least_claim)
    return _with_claims(found, claims, valid)


def valid_objects(boxes, labels):
    """Which rows of padded lists are objects: those with a label and an area."""
    boxes = ops.cast(boxes, "float32")
    sides = boxes[..., 2:] - boxes[..., :2]
    return (ops.cast(labels, "int32") >= 0) & ops.all(sides > 0, axis=-1)


def _padded(boxes, labels):
    """Boxes and which of them count, with one more that does not: lists may be empty."""
    boxes = ops.pad(ops.cast(boxes, "float32"), ((0, 0), (0, 1), (0, 0)))
    labels = ops.pad(ops.cast(labels, "int32"), ((0, 0), (0, 1)), constant_values=-1)
    return boxes, valid_objects(boxes, labels)


def _masked(overlap, valid):
    return ops.where(valid[:, :, None], overlap, -1.0)


def _with_claims(found, claims, valid):
    """The anchors' objects, where none claims them, else the last that does."""
    place = ops.arange(claims.shape[1] or ops.shape(claims)[1], dtype="int32")[None, :, None]
    claimed = ops.max(ops.where(claims & valid[:, :, None], place, -1), axis=1)
    return ops.where(claimed >= 0, claimed, ops.cast(found, "int32"))
