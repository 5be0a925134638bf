"""Which anchors and regions a step is trained on: random ones, a fixed number of places."""

from keras import ops


def sample(positive, negative, draws, count: int, most_positive: int):
    """Draws positives, then negatives until there are `count`.

    Args:
        positive: (batch, n), truth values.
        negative: (batch, n), likewise; never both.
        draws: (batch, n), random numbers from 0 to 1, which decide.
        count: of each image, at most.
        most_positive: of them, at most.

    Returns: places (batch, k), integers, positives first; and what is at each of them, two
        (batch, k) of truth values: whether it is a positive, and whether it is a negative. k is
        `count`, or n where that is less.

    Reference: Faster R-CNN (https://arxiv.org/abs/1506.01497), Section 3.1.3.
    """
    count = min(count, positive.shape[1] or count)
    draws = ops.stop_gradient(ops.cast(draws, "float32"))
    # Ranks of the drawn among the positives: those beyond the limit are left out.
    first = ops.where(positive, draws, -1.0)
    limit = min(most_positive, count)
    if limit == 0:
        threshold = ops.full_like(first[:, :1], 2.0)
    else:
        threshold = ops.top_k(first, limit)[0][:, -1:]
    chosen = positive & (first >= threshold)
    priority = ops.where(chosen, 2.0 + draws, ops.where(negative, draws, -1.0))
    priority, places = ops.top_k(priority, count)
    return ops.cast(places, "int32"), priority >= 2.0, (priority >= 0.0) & (priority < 2.0)
