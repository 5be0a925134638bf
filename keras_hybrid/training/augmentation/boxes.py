"""Augmentation of pictures with boxes: both are cut, mirrored and scaled alike.

Images are float32 (H, W, 3), boxes float32 (n, 4), corners in pixels; labels keep them company.
"""

import math

import tensorflow as tf

MINIMUM_OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
CROP_SIDES = (0.3, 1.0)
CROP_ASPECTS = (0.5, 2.0)
CROP_ATTEMPTS = 40


def random_ssd_crop(image, boxes, labels, seed):
    """Cuts out a part of a picture that some object overlaps enough, or leaves it whole.

    Args:
        image: float32 (H, W, 3).
        boxes: float32 (n, 4).
        labels: (n,).
        seed: two integers.

    Returns: image, boxes and labels of the crop, as `draw_ssd_crop` draws it.
    """
    window, kept = draw_ssd_crop(tf.shape(image)[:2], boxes, seed)
    boxes = boxes_in_window(tf.boolean_mask(boxes, kept), window)
    return crop(image, window), boxes, tf.boolean_mask(labels, kept)


def draw_ssd_crop(size, boxes, seed):
    """Draws the part of a picture that is cut out.

    One of seven cases is drawn: the whole picture, or a crop with a minimum overlap of 0.1 to 1.0.
    A crop is drawn up to 40 times, sides from 0.3 to 1 of the picture's, width over height from 0.5
    to 2, until the intersection over union of it and some object is the minimum at least and some
    object's center is inside. Objects whose center is outside are dropped, the others cut off.

    Args:
        size: height and width of the picture.
        boxes: float32 (n, 4).
        seed: two integers.

    Returns: int32 x1, y1, x2, y2; and (n,), truth values, which objects stay.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2, "Data augmentation".
    """
    size = tf.cast(size, tf.float32)
    seeds = tf.random.split(seed, 2)
    draws = tf.random.stateless_uniform([CROP_ATTEMPTS, 4], seeds[0])
    low, high = CROP_SIDES
    sides = tf.floor((low + draws[:, :2] * (high - low)) * size)
    sides = tf.maximum(sides, 1.0)
    start = tf.floor(draws[:, 2:] * (size - sides + 1))
    start = tf.minimum(start, size - sides)
    crops = tf.concat([start[:, ::-1], (start + sides)[:, ::-1]], axis=1)  # x1, y1, x2, y2
    aspects = sides[:, 1] / sides[:, 0]
    fits = (aspects >= CROP_ASPECTS[0]) & (aspects <= CROP_ASPECTS[1])

    # The whole picture is one more minimum, which no crop reaches.
    minimums = tf.constant([math.inf, *MINIMUM_OVERLAPS])
    which = tf.random.stateless_uniform([], seeds[1], 0, len(MINIMUM_OVERLAPS) + 1, tf.int32)
    enough = tf.reduce_any(_overlaps(crops, boxes) >= minimums[which], axis=1)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = tf.reduce_all(
        (centers[None] > crops[:, None, :2]) & (centers[None] < crops[:, None, 2:]), axis=-1
    )  # (attempts, n)
    good = fits & enough & tf.reduce_any(inside, axis=1)
    chosen = tf.argmax(tf.cast(good, tf.int32), output_type=tf.int32)

    is_drawn = tf.reduce_any(good)
    whole = tf.concat([[0.0, 0.0], size[::-1]], 0)
    window = tf.where(is_drawn, crops[chosen], whole)
    return tf.cast(window, tf.int32), inside[chosen] | ~is_drawn


def crop(image, window):
    """The part of a picture (H, W, channels) inside of x1, y1, x2, y2."""
    x1, y1, x2, y2 = tf.unstack(window)
    return tf.ensure_shape(image[y1:y2, x1:x2], (None, None, image.shape[-1]))


def boxes_in_window(boxes, window):
    """Boxes in the pixels of a window that is cut out, and cut off at its edges."""
    window = tf.cast(window, tf.float32)
    corner = tf.concat([window[:2]] * 2, 0)
    return tf.clip_by_value(boxes - corner, 0.0, tf.concat([window[2:] - window[:2]] * 2, 0))


def flip_with_boxes(image, boxes, probability, seed):
    """Mirrors both left to right with the given probability."""
    if probability == 0:
        return image, boxes
    width = tf.cast(tf.shape(image)[1], tf.float32)
    is_flipped = draw_flip(probability, seed)
    mirrored = tf.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    image = tf.cond(is_flipped, lambda: tf.reverse(image, [1]), lambda: image)
    return image, tf.where(is_flipped, mirrored, boxes)


def draw_flip(probability, seed):
    """Whether `flip_with_boxes` mirrors."""
    return tf.random.stateless_uniform([], seed) < probability


def resize_with_boxes(image, boxes, size, keeps_aspect):
    """Both at a size: stretched, or scaled until they fit and padded right and below.

    Args:
        image: float32 (H, W, 3).
        boxes: float32 (n, 4).
        size: height and width.
        keeps_aspect: whether the picture is padded, with 0, or stretched.

    Returns: image (*size, 3) and boxes.
    """
    limit = tf.constant(size, tf.float32)
    old = tf.cast(tf.shape(image)[:2], tf.float32)
    new = fitting_size(old, tf.reduce_min(limit / old)) if keeps_aspect else limit
    image, boxes = scale_with_boxes(image, boxes, tf.minimum(new, limit))
    return pad_picture(image, size), boxes


def fitting_size(size, scale):
    """A picture's height and width, float32 (2,), times a factor: whole pixels, 1 at least."""
    return tf.maximum(tf.floor(size * scale + 0.5), 1.0)


def scale_with_boxes(image, boxes, size):
    """Both at a size, float32 (2,): height and width."""
    scale = (size / tf.cast(tf.shape(image)[:2], tf.float32))[::-1]
    image = tf.image.resize(image, tf.cast(size, tf.int32))
    return image, boxes * tf.concat([scale, scale], 0)


def pad_picture(image, size):
    """A picture filled up with 0 to the right and below, (*size, 3)."""
    missing = size - tf.shape(image)[:2]
    image = tf.pad(image, [[0, missing[0]], [0, missing[1]], [0, 0]])
    return tf.ensure_shape(image, (*known_size(size), 3))


def known_size(size):
    """Height and width as numbers, None where a tensor has them that is known only later."""
    found = tf.get_static_value(size)
    return (None, None) if found is None else tuple(map(int, found))


def pad_objects(boxes, labels, count):
    """Lists of a fixed length: boxes (count, 4) of 0, and labels (count,) of -1 where none is.

    Objects beyond `count` are dropped, the smallest first.
    """
    order = largest(boxes, count)
    boxes, labels = tf.gather(boxes, order), tf.cast(tf.gather(labels, order), tf.int32)
    missing = count - tf.shape(labels)[0]
    boxes = tf.pad(boxes, [[0, missing], [0, 0]])
    labels = tf.pad(labels, [[0, missing]], constant_values=-1)
    return tf.ensure_shape(boxes, (count, 4)), tf.ensure_shape(labels, (count,))


def largest(boxes, count):
    """Places of the largest boxes, so many at most, the largest first."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return tf.argsort(-sides[:, 0] * sides[:, 1], stable=True)[:count]


def _overlaps(boxes, others):
    """(n, m): intersection over union; 0 where neither has an area."""
    boxes, others = boxes[:, None], others[None]
    sides = tf.maximum(
        tf.minimum(boxes[..., 2:], others[..., 2:]) - tf.maximum(boxes[..., :2], others[..., :2]),
        0.0,
    )
    shared = sides[..., 0] * sides[..., 1]
    areas = [tf.reduce_prod(x[..., 2:] - x[..., :2], axis=-1) for x in (boxes, others)]
    return tf.math.divide_no_nan(shared, areas[0] + areas[1] - shared)
