"""Augmentation of objects' masks: what happens to their picture happens to them.

Masks are uint8 (n, H, W) of 0 and 1, at the size of their picture.
"""

import tensorflow as tf

from keras_hybrid.training.augmentation.boxes import known_size


def crop_masks(masks, window):
    """The part of masks inside of x1, y1, x2, y2."""
    x1, y1, x2, y2 = tf.unstack(window)
    return masks[:, y1:y2, x1:x2]


def scale_masks(masks, size):
    """Masks at a size, float32 (2,): each pixel is that of the nearest center."""
    # Differs from MMDetection, whose masks end up to half a pixel to the lower right of their
    # objects: pictures are resized between centers.
    size = tf.cast(size, tf.int32)
    return tf.image.resize(masks[..., None], size, "nearest")[..., 0]


def pad_masks(masks, count, size):
    """Masks filled up to the right and below to (height, width), and with empty ones to `count`."""
    shape = tf.shape(masks)
    missing = [[0, count - shape[0]], [0, size[0] - shape[1]], [0, size[1] - shape[2]]]
    return tf.ensure_shape(tf.pad(masks, missing), (count, *known_size(size)))


def packed_masks(masks):
    """Eight pixels of a row as one number, the first the highest bit: (..., W) -> (..., W / 8).

    A batch of masks is that much smaller on its way to the device; `InstanceTraining` unpacks the
    masks that it needs. Rows are filled up with 0.
    """
    width = tf.shape(masks)[-1]
    masks = tf.pad(masks, [[0, 0]] * (masks.shape.rank - 1) + [[0, -width % 8]])
    bits = tf.reshape(masks, tf.concat([tf.shape(masks)[:-1], [-1, 8]], 0))
    weights = tf.constant([128, 64, 32, 16, 8, 4, 2, 1], tf.uint8)
    return tf.reduce_sum(bits * weights, axis=-1)
