"""From an encoded image to a square one: random crops for training, a central one to evaluate."""

import tensorflow as tf

from keras_hybrid.image_files import decode_tensor, is_plain_jpeg
from keras_hybrid.training.recipe.recipe import CROP, STRETCH

ATTEMPTS = 10


def random_crop_box(height, width, area, aspect, seed, to_square=CROP):
    """Draws a crop: its share of the area uniformly, its aspect log-uniformly.

    The first of ten draws that fits is taken; where none does, the largest central crop whose
    aspect is in range.

    Args:
        height, width: of the image, in pixels.
        area: least and greatest share of the image's area.
        aspect: least and greatest width over height.
        seed: two integers.
        to_square: with "stretch", `aspect` is relative to the image's: the crop of a wide image
            is wide, and such crops reach all of it.

    Returns: int32 (top, left, height, width).

    Reference: Going Deeper with Convolutions (https://arxiv.org/abs/1409.4842), Section 6, with
    the log-uniform aspect of today's PyTorch recipes.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    own = width / height if to_square == STRETCH else 1.0
    seeds = tf.random.split(seed, 3)
    areas = tf.random.stateless_uniform([ATTEMPTS], seeds[0], *area) * height * width
    aspects = own * tf.exp(
        tf.random.stateless_uniform(
            [ATTEMPTS], seeds[1], tf.math.log(float(aspect[0])), tf.math.log(float(aspect[1]))
        )
    )
    widths = tf.round(tf.sqrt(areas * aspects))
    heights = tf.round(tf.sqrt(areas / aspects))
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = tf.argmax(fits)
    fallback_width = tf.minimum(width, tf.round(height * aspect[1] * own))
    fallback_height = tf.minimum(height, tf.round(width / (aspect[0] * own)))
    any_fits = tf.reduce_any(fits)
    crop_width = tf.where(any_fits, widths[first], fallback_width)
    crop_height = tf.where(any_fits, heights[first], fallback_height)
    position = tf.where(any_fits, tf.random.stateless_uniform([2], seeds[2]), [0.5, 0.5])
    top = tf.floor(position[0] * (height - crop_height + 1))
    left = tf.floor(position[1] * (width - crop_width + 1))
    top = tf.minimum(top, height - crop_height)
    left = tf.minimum(left, width - crop_width)
    return tf.cast(tf.stack([top, left, crop_height, crop_width]), tf.int32)


def decode_random_crop(encoded, resolution, area, aspect, interpolation, seed, to_square=CROP):
    """Decodes, crops at random and resizes: float32 (resolution, resolution, 3), 0 to 255."""

    def of_jpeg():
        shape = tf.io.extract_jpeg_shape(encoded)
        box = random_crop_box(shape[0], shape[1], area, aspect, seed, to_square)
        return tf.io.decode_and_crop_jpeg(  # decodes the crop only
            encoded, box, channels=3, dct_method="INTEGER_ACCURATE"
        )

    def of_other():
        image = decode_tensor(encoded)
        shape = tf.shape(image)
        box = random_crop_box(shape[0], shape[1], area, aspect, seed, to_square)
        return tf.slice(image, [box[0], box[1], 0], [box[2], box[3], 3])

    image = tf.cond(is_plain_jpeg(encoded), of_jpeg, of_other)
    draw = tf.random.stateless_uniform([], tf.random.fold_in(seed, 1))
    image = resize(image, tf.stack([resolution, resolution]), interpolation, draw)
    static = resolution if isinstance(resolution, int) else None
    return tf.ensure_shape(image, (static, static, 3))


def decode_central_crop(encoded, resolution, crop_fraction, interpolation, to_square=CROP):
    """Decodes, resizes the shorter side to resolution / crop_fraction, and crops the centre.

    With `to_square="stretch"`, both sides are resized to that: with a `crop_fraction` of 1 nothing
    of the image is cut away.

    Returns: float32 (resolution, resolution, 3), 0 to 255.
    """
    image = decode_tensor(encoded)
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    shorter = float(int(resolution / crop_fraction))
    sides = shape if to_square == STRETCH else tf.reduce_min(shape)
    size = tf.cast(tf.floor(shape * shorter / sides + 1e-3), tf.int32)
    image = resize(image, size, interpolation)
    top, left = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    image = tf.slice(image, [top, left, 0], [resolution, resolution, 3])
    return tf.ensure_shape(image, (resolution, resolution, 3))


def resize(image, size, interpolation, draw=None):
    """Resizes with antialiasing, and keeps the values within 0 to 255.

    Args:
        image: (H, W, 3).
        size: height and width to come.
        interpolation: "bilinear", "bicubic" or "random".
        draw: from 0 to 1, which decides where it is random.
    """
    if interpolation == "random":
        return tf.cond(
            draw < 0.5,
            lambda: resize(image, size, "bilinear"),
            lambda: resize(image, size, "bicubic"),
        )

    def antialiased():
        return tf.image.resize(image, size, method=interpolation, antialias=True)

    if interpolation == "bilinear":
        # Where nothing shrinks, TensorFlow's plain kernel does the same several times faster.
        resized = tf.cond(
            tf.reduce_all(size >= tf.shape(image)[:2]),
            lambda: tf.image.resize(image, size, method=interpolation),
            antialiased,
        )
    else:
        resized = antialiased()
    return tf.clip_by_value(resized, 0.0, 255.0)


def random_flip(image, probability, seed):
    """Mirrors the image left to right with the given probability."""
    if probability == 0:
        return image
    draw = tf.random.stateless_uniform([], seed)
    return tf.cond(draw < probability, lambda: tf.reverse(image, [1]), lambda: image)
