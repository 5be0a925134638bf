"""Augmentation of images with a class for each pixel: both are cut, scaled and turned alike.

Images are float32 (H, W, 3), masks int32 (H, W), and 255 is no class. Images are resized bilinearly
between pixels' centres, masks take the class of the nearest centre, so that an edge of the mask
stays at its edge of the image within half a pixel.
"""

import math

import tensorflow as tf

from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL

CROP_ATTEMPTS = 10  # after the first
BLUR_SIZES = (3, 5, 7, 9)


def random_size(shape, resolution, scale, long_side, long_side_scaled, seed):
    """Draws the size that an image is resized to, its aspect kept.

    Args:
        shape: height and width of the image.
        resolution: of the crop.
        scale: least and greatest short side over `resolution`, of which one is drawn uniformly.
        long_side: the most that the long side may be over `resolution`; None for any.
        long_side_scaled: whether this limit is scaled, too.
        seed: two integers.

    Returns: int32 (height, width).

    Reference: MMSegmentation's RandomResize, as iFormer (https://arxiv.org/abs/2501.15369),
    Section 4.3 trains; without a limit MobileViT's (https://arxiv.org/abs/2110.02178).
    """
    drawn = tf.random.stateless_uniform([], seed, *scale)
    sides = tf.cast(shape[:2], tf.float32)
    factor = resolution * drawn / tf.reduce_min(sides)
    if long_side is not None:
        limit = resolution * long_side * (drawn if long_side_scaled else 1.0)
        factor = tf.minimum(factor, limit / tf.reduce_max(sides))
    return tf.maximum(tf.cast(sides * factor + 0.5, tf.int32), 1)


def resize_both(image, mask, size):
    """Image and mask in another size: bilinear without antialiasing, and nearest."""
    image = tf.image.resize(image, size)
    mask = tf.image.resize(mask[..., None], size, "nearest")[..., 0]
    return image, mask


def at_least(size, resolution):
    """A size enlarged, aspect kept, until a crop of `resolution` fits."""
    factor = tf.maximum(resolution / tf.reduce_min(size), 1.0)
    grown = tf.cast(tf.math.ceil(tf.cast(size, tf.float64) * factor - 1e-6), tf.int32)
    return tf.where(factor > 1, grown, size)


def random_crop_both(image, mask, resolution, one_class_share, seed):
    """A crop of at most `resolution` a side, drawn again while one class covers too much of it.

    The first draw and ten more; the last one is taken as it is.

    Args:
        image: float32 (H, W, 3).
        mask: int32 (H, W).
        resolution: of the crop; a side that is shorter stays whole.
        one_class_share: of the labelled pixels that one class may cover; a crop without any label
            is drawn again, too. 1 for any crop.
        seed: two integers.

    Reference: MMSegmentation's RandomCrop with `cat_max_ratio`.
    """
    shape = tf.shape(mask)
    size = tf.minimum(shape, resolution)
    draws = tf.random.stateless_uniform([CROP_ATTEMPTS + 1, 2], seed)
    places = tf.floor(draws * tf.cast(shape - size + 1, tf.float32))
    places = tf.minimum(tf.cast(places, tf.int32), shape - size)

    def is_refused(attempt):
        labels = tf.slice(mask, places[attempt], size)
        counts = tf.math.bincount(labels, minlength=IGNORED_LABEL + 1)[:IGNORED_LABEL]
        most, labelled = tf.reduce_max(counts), tf.reduce_sum(counts)
        share = tf.cast(most, tf.float32) / tf.cast(tf.maximum(labelled, 1), tf.float32)
        return (labelled == 0) | (share > one_class_share)

    place = places[0]
    if one_class_share < 1:
        attempt = tf.while_loop(
            lambda attempt: (attempt < CROP_ATTEMPTS) & is_refused(attempt),
            lambda attempt: [attempt + 1],
            [tf.constant(0)],
        )[0]
        place = places[attempt]
    image = tf.slice(image, tf.concat([place, [0]], 0), tf.concat([size, [3]], 0))
    return image, tf.slice(mask, place, size)


def flip_both(image, mask, probability, seed):
    """Mirrors both left to right with the given probability."""
    if probability == 0:
        return image, mask
    is_flipped = tf.random.stateless_uniform([], seed) < probability
    image = tf.cond(is_flipped, lambda: tf.reverse(image, [1]), lambda: image)
    return image, tf.cond(is_flipped, lambda: tf.reverse(mask, [1]), lambda: mask)


def pad_both(image, mask, resolution):
    """Fills both up to the right and below: images with 0, masks with no class.

    Images are normalised before, so that 0 is the mean color of the training set, or black.
    """
    missing = tf.maximum(resolution - tf.shape(mask), 0)
    right, below = [0, missing[1]], [0, missing[0]]
    image = tf.pad(image, [below, right, [0, 0]])
    mask = tf.pad(mask, [below, right], constant_values=IGNORED_LABEL)
    shape = (resolution, resolution)
    return tf.ensure_shape(image, (*shape, 3)), tf.ensure_shape(mask, shape)


def rotate_both(image, mask, degrees, seed):
    """Turns both around the centre by a random angle; corners are black, and without a class.

    Args:
        image: float32 (H, W, 3).
        mask: int32 (H, W).
        degrees: the largest angle, either way.
        seed: two integers.
    """
    if degrees == 0:
        return image, mask
    angle = tf.random.stateless_uniform([], seed, -degrees, degrees) * (math.pi / 180)
    height, width = tf.unstack(tf.cast(tf.shape(mask), tf.float32))
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    # Where in the old image each pixel of the new one lies.
    moved = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, 0.0, 0.0]

    def turn(values, interpolation, fill):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=values[None],
            transforms=[moved],
            output_shape=tf.shape(mask),
            fill_value=float(fill),
            interpolation=interpolation,
            fill_mode="CONSTANT",
        )[0]

    image = turn(image, "BILINEAR", 0)
    return image, turn(mask[..., None], "NEAREST", IGNORED_LABEL)[..., 0]


def random_blur(image, probability, seed):
    """A Gaussian blur, its kernel of 3 to 9 pixels and the width that OpenCV takes for it."""
    if probability == 0:
        return image
    seeds = tf.random.split(seed, 2)
    size = tf.random.stateless_uniform([], seeds[1], 0, len(BLUR_SIZES), tf.int32) * 2 + 3

    def blurred():
        half = tf.cast(size // 2, tf.float32)
        sigma = 0.3 * (half - 1) + 0.8
        weights = tf.exp(-0.5 * (tf.range(-half, half + 1) / sigma) ** 2)
        weights = weights / tf.reduce_sum(weights)
        border = size // 2
        x = tf.pad(image, [[border, border], [border, border], [0, 0]], "REFLECT")[None]
        kernel = tf.tile(weights[:, None, None, None], [1, 1, 3, 1])
        x = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID")
        return tf.nn.depthwise_conv2d(x, tf.transpose(kernel, [1, 0, 2, 3]), [1, 1, 1, 1], "VALID")[
            0
        ]

    is_blurred = tf.random.stateless_uniform([], seeds[0]) < probability
    # A map smaller than the border cannot be reflected.
    is_blurred &= tf.reduce_min(tf.shape(image)[:2]) > max(BLUR_SIZES) // 2
    return tf.cond(is_blurred, blurred, lambda: image)
