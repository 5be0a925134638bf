"""Non-maximum suppression of padded lists in plain operations: any backend, static shapes."""

from keras import ops

from keras_hybrid.tasks.detection.matching import overlaps


def not_suppressed(boxes, valid, threshold: float, labels=None):
    """Which boxes stay when those that overlap a better one that stays are dropped.

    A box stays if no better one that stays overlaps it. Taken of all at once and again and again,
    that settles one more link of each chain of boxes every time, and ends when nothing changes:
    after a few rounds, and with the greedy algorithm's very result.

    Args:
        boxes: (..., n, 4), corners, the best first.
        valid: (..., n), truth values; others neither stay nor drop any.
        threshold: overlaps over it count.
        labels: (..., n), integers: only boxes of one label drop each other; None for one label.

    Returns: (..., n), truth values.
    """
    boxes = ops.stop_gradient(boxes)
    over = overlaps(boxes, boxes) > threshold
    place = ops.arange(boxes.shape[-2] or ops.shape(boxes)[-2])
    over = over & (place[:, None] < place[None])  # (..., better, worse)
    if labels is not None:
        over = over & ops.equal(labels[..., :, None], labels[..., None, :])
    over = ops.cast(over, "float32")

    def again(stays, _):
        counted = ops.cast(stays, "float32")[..., None, :]
        dropped = ops.matmul(counted, over)[..., 0, :] > 0  # (..., n)
        now = valid & ~dropped
        return now, ops.any(ops.not_equal(now, stays))

    stays, _ = ops.while_loop(
        lambda _, changed: changed, again, (valid, ops.convert_to_tensor(True, "bool"))
    )
    return stays
