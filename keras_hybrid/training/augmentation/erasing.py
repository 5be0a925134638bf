"""Random erasing: a box of the image becomes noise."""

import math

import tensorflow as tf

AREA = (0.02, 1 / 3)
ASPECT = (0.3, 1 / 0.3)
ATTEMPTS = 10


def random_erasing(image, probability: float, seed):
    """Replaces a random box by normal noise, a draw for each pixel and channel.

    The box covers 2 % to a third of the area, uniformly, with a log-uniform aspect from 0.3 to
    3.33; the first of ten draws that fits is taken, and none where none does.

    Args:
        image: float32 (H, W, channels), normalised, so that the noise is of its scale.
        probability: of erasing at all.
        seed: two integers.

    Reference: Random Erasing Data Augmentation (https://arxiv.org/abs/1708.04896); noise for each
    pixel is what the recipes call the pixel mode.
    """
    if probability == 0:
        return image
    box, noise_seed = erasing_box(tf.shape(image), probability, seed)
    top, left, bottom, right = tf.unstack(box)
    rows, columns = tf.range(tf.shape(image)[0]), tf.range(tf.shape(image)[1])
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    noise = tf.random.stateless_normal(tf.shape(image), noise_seed)
    return tf.where(inside[..., None], noise, image)


def erasing_box(shape, probability: float, seed):
    """Draws what `random_erasing` replaces.

    Args:
        shape: of the image.
        probability: of erasing at all.
        seed: two integers.

    Returns: int32 (4,), top, left and both ends of the box, all 0 for none; and two integers, the
        seed of its noise.
    """
    height, width = tf.unstack(shape[:2])
    seeds = tf.random.split(seed, 5)
    areas = tf.random.stateless_uniform([ATTEMPTS], seeds[0], *AREA)
    areas *= tf.cast(height * width, tf.float32)
    logarithms = [math.log(aspect) for aspect in ASPECT]
    aspects = tf.exp(tf.random.stateless_uniform([ATTEMPTS], seeds[1], *logarithms))
    heights = tf.cast(tf.round(tf.sqrt(areas * aspects)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(areas / aspects)), tf.int32)
    fits = (heights < height) & (widths < width)
    first = tf.argmax(fits)
    box_height, box_width = heights[first], widths[first]
    position = tf.random.stateless_uniform([2], seeds[2])
    top = tf.cast(position[0] * tf.cast(height - box_height + 1, tf.float32), tf.int32)
    left = tf.cast(position[1] * tf.cast(width - box_width + 1, tf.float32), tf.int32)
    happens = tf.reduce_any(fits) & (tf.random.stateless_uniform([], seeds[3]) < probability)
    box = tf.stack([top, left, top + box_height, left + box_width])
    return box * tf.cast(happens, tf.int32), seeds[4]
