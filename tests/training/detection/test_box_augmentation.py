"""Pictures and boxes are augmented together: the box of what is red stays around it."""

import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid.training.augmentation.boxes import (
    flip_with_boxes,
    pad_objects,
    random_ssd_crop,
    resize_with_boxes,
)

BOXES = np.array([[10, 5, 40, 30], [50, 40, 90, 78]], "float32")


def scene():
    image = np.zeros((80, 100, 3), "float32")
    for channel, (x1, y1, x2, y2) in enumerate(BOXES.astype(int)):
        image[y1:y2, x1:x2, channel] = 1
    return tf.constant(image)


def boxes_in(image):
    """The box of each channel's bright part, and whether there is one."""
    found = []
    for channel in range(2):
        rows, columns = (np.flatnonzero(image[..., channel].any(axis)) for axis in (1, 0))
        if len(rows) and len(columns):
            found.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return np.array(found)


def test_crops_cut_boxes_as_they_cut_the_picture():
    image, labels = scene(), tf.constant([0, 1])
    shapes = set()
    for number in range(60):
        crop, boxes, kept = random_ssd_crop(image, tf.constant(BOXES), labels, [7, number])
        shapes.add(tuple(crop.shape))
        height, width = crop.shape[:2]
        assert 1 <= len(kept) <= 2 and len(boxes) == len(kept)
        assert height >= 24 and width >= 30 and 0.5 <= width / height <= 2
        for box, label in zip(boxes.numpy(), kept.numpy(), strict=True):
            only = np.zeros_like(crop.numpy())
            only[..., 0] = crop[..., label]
            np.testing.assert_array_equal(boxes_in(only)[0], box)
    assert len(shapes) > 10 and (80, 100, 3) in shapes


def test_a_picture_without_objects_stays_whole():
    image = scene()
    crop, boxes, labels = random_ssd_crop(image, tf.zeros((0, 4)), tf.zeros((0,), tf.int32), [1, 2])
    assert crop.shape == image.shape and len(boxes) == len(labels) == 0


def test_flips_and_resizes_take_the_boxes_along():
    image, boxes = flip_with_boxes(scene(), tf.constant(BOXES), 1.0, [0, 0])
    np.testing.assert_array_equal(boxes_in(image.numpy()), boxes)
    same, unmoved = flip_with_boxes(scene(), tf.constant(BOXES), 0.0, [0, 0])
    np.testing.assert_array_equal(unmoved, BOXES)
    stretched, boxes = resize_with_boxes(scene(), tf.constant(BOXES), (160, 50), False)
    np.testing.assert_array_equal(boxes, BOXES * [0.5, 2, 0.5, 2])
    padded, boxes = resize_with_boxes(scene(), tf.constant(BOXES), (160, 400), True)
    np.testing.assert_array_equal(boxes, BOXES * 2)
    assert padded.shape == (160, 400, 3) and not padded[:, 200:].numpy().any()
    np.testing.assert_allclose(boxes_in(padded.numpy() > 0.5), BOXES * 2, atol=1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_lists_have_one_length(count):
    boxes, labels = pad_objects(tf.constant(BOXES), tf.constant([3, 4]), count)
    assert boxes.shape == (count, 4)
    assert labels.numpy().tolist() == [4, 3, -1, -1, -1][:count]  # the largest first
