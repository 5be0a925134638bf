"""Mixup and CutMix: two images and two labels become one, by the batch."""

from typing import NamedTuple

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
    return share * images + (1 - share) * partners(images), mix_labels(labels, share)


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


def cutmix(images, labels, box):
    """Pastes a box of the neighbouring image of the batch; labels follow the area.

    Images, labels and result are `mixup`'s; the box, of `cutmix_box`, is the same for the whole
    batch, and the labels' share is that of the pixels that stay.

    Reference: CutMix (https://arxiv.org/abs/1905.04899).
    """
    top, left, bottom, right = tf.unstack(box)
    height, width = tf.unstack(tf.shape(images)[1:3])
    rows, columns = tf.range(height), tf.range(width)
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    images = tf.where(inside[None, :, :, None], partners(images), images)
    return images, mix_labels(labels, remaining_share(height, width, box))


def mix_labels(labels, share):
    """Blends each label with its neighbour's, of which it keeps `share`."""
    return share * labels + (1 - share) * partners(labels)


def remaining_share(height, width, box):
    """The share of an image's pixels that lie outside a box."""
    top, left, bottom, right = tf.unstack(box)
    area = tf.maximum(bottom - top, 0) * tf.maximum(right - left, 0)
    return 1 - tf.cast(area, tf.float32) / tf.cast(height * width, tf.float32)


class Mixing(NamedTuple):
    """What is drawn for a batch.

    Attributes:
        is_cutmix: whether a box is pasted; else images are blended.
        share: of an image itself where it is blended, 1 with CutMix.
        box: int32 (4,), pasted of the neighbour: top, left and both ends; of no area with mixup.
        label_share: of an image's own label.
    """

    is_cutmix: tf.Tensor
    share: tf.Tensor
    box: tf.Tensor
    label_share: tf.Tensor


def draw_mixing(
    height, width, mixup_alpha: float, cutmix_alpha: float, switch_probability: float, seed
) -> Mixing | None:
    """Draws what a recipe asks for a batch of images; None where it asks for nothing.

    Args:
        height, width: of the images.
        mixup_alpha: of Beta(alpha, alpha); 0 for no mixup.
        cutmix_alpha: the same for CutMix.
        switch_probability: of CutMix, where both are on.
        seed: two integers.
    """
    if not mixup_alpha and not cutmix_alpha:
        return None
    seeds = tf.random.split(seed, 4)
    if mixup_alpha and cutmix_alpha:
        is_cutmix = tf.random.stateless_uniform([], seeds[3]) < switch_probability
    else:
        is_cutmix = tf.constant(bool(cutmix_alpha))
    blended = beta_draw(mixup_alpha or 1.0, seeds[0])
    box = tf.stack(cutmix_box(height, width, beta_draw(cutmix_alpha or 1.0, seeds[1]), seeds[2]))
    return Mixing(
        is_cutmix,
        tf.where(is_cutmix, 1.0, blended),
        tf.where(is_cutmix, box, 0),
        tf.where(is_cutmix, remaining_share(height, width, box), blended),
    )


def mix(images, labels, mixup_alpha, cutmix_alpha, switch_probability, seed):
    """Mixes a batch by mixup or CutMix, as a recipe asks.

    Args:
        images: float32 (batch, H, W, 3).
        labels: float32 (batch, classes).
        mixup_alpha, cutmix_alpha, switch_probability, seed: of `draw_mixing`.
    """
    height, width = tf.unstack(tf.shape(images)[1:3])
    drawn = draw_mixing(height, width, mixup_alpha, cutmix_alpha, switch_probability, seed)
    if drawn is None:
        return images, labels
    return tf.cond(
        drawn.is_cutmix,
        lambda: cutmix(images, labels, drawn.box),
        lambda: mixup(images, labels, drawn.share),
    )
