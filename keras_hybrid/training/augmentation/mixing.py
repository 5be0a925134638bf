"""Mixup and CutMix: two images and two labels become one, by the batch."""

import tensorflow as tf


def beta_draw(alpha: float, seed):
    """One draw from Beta(alpha, alpha): a scalar in [0, 1]."""
    gammas = tf.random.stateless_gamma([2], seed, alpha)
    return gammas[0] / tf.maximum(tf.reduce_sum(gammas), 1e-12)


def partners(values):
    """Neighbours in a batch change places: 1 0 3 2 ...; the last of an odd number stays.

    Neighbours, because each process of several holds a contiguous part of the batch.
    """
    places = tf.range(tf.shape(values)[0])
    swapped = tf.minimum(tf.bitwise.bitwise_xor(places, 1), tf.shape(values)[0] - 1)
    return tf.ensure_shape(tf.gather(values, swapped), values.shape)


def mixup(images, labels, share):
    """Blends each image and label with its neighbour's.

    Args:
        images: float32 (batch, H, W, 3).
        labels: float32 (batch, classes).
        share: of the image itself, in [0, 1].

    Returns: images and labels of the same shapes.

    Reference: mixup (https://arxiv.org/abs/1710.09412).
    """
    return tuple(share * values + (1 - share) * partners(values) for values in (images, labels))


def cutmix_box(height, width, share, seed):
    """A box of about (1 - share) of the area, cut where it leaves the image: top, left, ends."""
    size = tf.sqrt(1 - share) * tf.cast([height, width], tf.float32)
    size = tf.cast(size, tf.int32)
    shape = tf.stack([height, width])
    centre = tf.random.stateless_uniform([2], seed) * tf.cast(shape, tf.float32)
    start = tf.cast(centre, tf.int32) - size // 2
    end = tf.clip_by_value(start + size, 0, shape)
    start = tf.clip_by_value(start, 0, shape)
    return start[0], start[1], end[0], end[1]


def cutmix(images, labels, share, seed):
    """Pastes a box of the neighbouring image of the batch; labels follow the area.

    Args and result are `mixup`'s; the box is the same for the whole batch, and the labels' share
    is that of the pixels that stay.

    Reference: CutMix (https://arxiv.org/abs/1905.04899).
    """
    height, width = tf.unstack(tf.shape(images)[1:3])
    top, left, bottom, right = cutmix_box(height, width, share, seed)
    rows, columns = tf.range(height), tf.range(width)
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    images = tf.where(inside[None, :, :, None], partners(images), images)
    share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32))
    return images, share * labels + (1 - share) * partners(labels)


def mix(images, labels, mixup_alpha, cutmix_alpha, switch_probability, seed):
    """Mixes a batch by mixup or CutMix, as a recipe asks.

    Args:
        images: float32 (batch, H, W, 3).
        labels: float32 (batch, classes).
        mixup_alpha: of Beta(alpha, alpha); 0 for no mixup.
        cutmix_alpha: the same for CutMix.
        switch_probability: of CutMix, where both are on.
        seed: two integers.
    """
    seeds = tf.random.split(seed, 4)
    if not mixup_alpha and not cutmix_alpha:
        return images, labels
    if not cutmix_alpha:
        return mixup(images, labels, beta_draw(mixup_alpha, seeds[0]))
    if not mixup_alpha:
        return cutmix(images, labels, beta_draw(cutmix_alpha, seeds[1]), seeds[2])
    return tf.cond(
        tf.random.stateless_uniform([], seeds[3]) < switch_probability,
        lambda: cutmix(images, labels, beta_draw(cutmix_alpha, seeds[1]), seeds[2]),
        lambda: mixup(images, labels, beta_draw(mixup_alpha, seeds[0])),
    )
