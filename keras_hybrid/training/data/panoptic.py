"""Panoptic images: pictures whose colors spell the number of the segment that a pixel is of.

Reference: Panoptic Segmentation (https://arxiv.org/abs/1801.00868); COCO's format.
"""

import tensorflow as tf

from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL


def segment_numbers(colors):
    """Panoptic images, uint8 (..., H, W, 3) -> the numbers of their segments, int64 (..., H, W)."""
    weights = tf.constant([1, 1 << 8, 1 << 16], tf.int64)
    return tf.reduce_sum(tf.cast(colors, tf.int64) * weights, -1)


def panoptic_classes(colors, segments, labels):
    """The class of each pixel of a panoptic image, of things and stuff alike.

    Args:
        colors: uint8 (H, W, 3), which spell the number of a segment.
        segments: the numbers, (n,).
        labels: a class for each, (n,).

    Returns: int32 (H, W), 255 where there is no segment.
    """
    keys = segment_numbers(colors)
    # A segment that no pixel can be of, so that there is one to look at.
    segments = tf.concat([tf.cast(segments, tf.int64), [1 << 24]], 0)
    labels = tf.concat([tf.cast(labels, tf.int32), [IGNORED_LABEL]], 0)
    order = tf.argsort(segments)
    segments, labels = tf.gather(segments, order), tf.gather(labels, order)
    places = tf.searchsorted(segments, tf.reshape(keys, [-1]))
    found = tf.gather(segments, places) == tf.reshape(keys, [-1])
    classes = tf.where(found, tf.gather(labels, places), IGNORED_LABEL)
    return tf.reshape(classes, tf.shape(keys))


def panoptic_masks(colors, segments):
    """The pixels of each segment of a panoptic image: no two masks have one in common.

    Args:
        colors: uint8 (H, W, 3), which spell the number of a segment.
        segments: the numbers, (n,).

    Returns: uint8 (n, H, W), of 0 and 1.
    """
    segments = tf.cast(segments, tf.int64)[:, None, None]
    return tf.cast(segment_numbers(colors)[None] == segments, tf.uint8)
