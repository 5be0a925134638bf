"""Images and masks are cut, scaled and turned alike; amounts are the authors'."""

import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid.training.augmentation.dense import (
    at_least,
    flip_both,
    pad_both,
    random_blur,
    random_crop_both,
    random_size,
    resize_both,
    rotate_both,
)
from keras_hybrid.training.augmentation.distortion import photometric_distortion

SEED = tf.constant([3, 7])


def seeds(count):
    return tf.random.split(SEED, count)


def numbered(height, width):
    """An image whose values are its mask's classes, so that both can be compared."""
    mask = np.arange(height * width).reshape(height, width) % 200
    return tf.constant(np.repeat(mask[..., None], 3, -1), tf.float32), tf.constant(mask, tf.int32)


def test_sizes_keep_the_aspect_and_span_the_published_range():
    """ADE20K's: to fit (2048, 512) x r, r from 0.5 to 2."""
    drawn = [
        random_size((300, 450), 512, (0.5, 2.0), 4.0, True, seed).numpy() for seed in seeds(200)
    ]
    short = np.array(drawn)[:, 0]
    assert 256 <= short.min() < 280 and 1000 < short.max() <= 1024
    for height, width in drawn:
        assert abs(width - height * 1.5) <= 1.25  # both are rounded
    assert np.quantile(short, 0.5) == pytest.approx(640, abs=100)  # uniform


def test_long_images_are_limited_by_their_long_side():
    for shape, scale, limit, is_scaled, expected in (
        ((100, 1000), 1.0, 4.0, True, [205, 2048]),  # within 2048 x 512
        ((100, 400), 1.5, 2.0, False, [256, 1024]),  # of MobileViT's later library
        ((100, 400), 1.5, None, True, [768, 3072]),
    ):
        size = random_size(shape, 512, (scale, scale), limit, is_scaled, SEED)
        assert size.numpy().tolist() == expected


def test_small_images_are_enlarged_until_a_crop_fits():
    assert at_least(tf.constant([300, 450]), 512).numpy().tolist() == [512, 768]
    assert at_least(tf.constant([513, 1024]), 512).numpy().tolist() == [513, 1024]
    assert at_least(tf.constant([7, 3]), 64).numpy().min() >= 64


def test_an_edge_stays_at_its_place_when_both_are_resized():
    mask = np.zeros((40, 60), "int32")
    mask[10:30, 24:48] = 1
    image = np.repeat(mask[..., None], 3, -1).astype("float32")
    for size in ((83, 121), (17, 23), (40, 60)):
        x, labels = resize_both(tf.constant(image), tf.constant(mask), size)
        assert set(np.unique(labels)) == {0, 1}
        # Bilinear values are above a half where the nearest centre is inside.
        clear = np.abs(x[..., 0] - 0.5) > 0.26
        np.testing.assert_array_equal(labels.numpy()[clear], x.numpy()[..., 0][clear] > 0.5)


def test_crops_are_of_the_same_place():
    image, mask = numbered(50, 70)
    places = set()
    for seed in seeds(30):
        x, labels = random_crop_both(image, mask, 32, 1.0, seed)
        assert x.shape == (32, 32, 3) and labels.shape == (32, 32)
        np.testing.assert_array_equal(x[..., 0], labels)
        places.add(int(labels[0, 0]))
    assert len(places) > 20
    x, labels = random_crop_both(image, mask, 60, 1.0, SEED)  # the shorter side stays whole
    assert labels.shape == (50, 60)


def test_no_class_covers_more_of_a_crop_than_it_may():
    mask = np.zeros((64, 64), "int32")
    mask[:, 40:] = 1
    mask[:8] = 255
    image, mask = tf.zeros((64, 64, 3)), tf.constant(mask)
    shares = {True: [], False: []}
    for seed in seeds(60):
        for limited in shares:
            _, labels = random_crop_both(image, mask, 16, 0.75 if limited else 1.0, seed)
            counts = np.bincount(labels.numpy()[labels.numpy() != 255], minlength=2)
            shares[limited].append(counts.max() / max(counts.sum(), 1))
    # Ten more draws find a crop on the edge nearly always; without the rule one in five is.
    assert np.mean(np.array(shares[True]) <= 0.75) > 0.8
    assert np.mean(np.array(shares[False]) <= 0.75) < 0.4


def test_a_crop_of_one_class_alone_is_taken_after_all_draws():
    x, labels = random_crop_both(tf.zeros((40, 40, 3)), tf.ones((40, 40), tf.int32), 16, 0.75, SEED)
    assert labels.shape == (16, 16)
    nothing = tf.fill((40, 40), 255)
    assert random_crop_both(tf.zeros((40, 40, 3)), nothing, 16, 0.75, SEED)[1].shape == (16, 16)


def test_flips_and_rotations_turn_both():
    image, mask = numbered(33, 47)
    flipped = [flip_both(image, mask, 0.5, seed) for seed in seeds(20)]
    is_flipped = [int(labels[0, 0]) == int(mask[0, -1]) for _, labels in flipped]
    assert 3 < sum(is_flipped) < 17
    for x, labels in flipped:
        np.testing.assert_array_equal(x[..., 0], labels)
    disc = np.hypot(*(np.indices((65, 65)) - 32)) < 30
    half = (disc & (np.indices((65, 65))[1] > 32)).astype("int32")
    angles = []
    for seed in seeds(10):
        x, labels = rotate_both(
            tf.constant(np.repeat(half[..., None], 3, -1), tf.float32), tf.constant(half), 10, seed
        )
        labels = labels.numpy()
        assert set(np.unique(labels)) <= {0, 1, 255}
        clear = (np.abs(x[..., 0] - 0.5) > 0.3) & (labels != 255)
        np.testing.assert_array_equal(labels[clear], x.numpy()[..., 0][clear] > 0.5)
        rows, columns = np.nonzero(labels == 1)
        angles.append(np.degrees(np.arctan2(rows.mean() - 32, columns.mean() - 32)))
    assert max(np.abs(angles)) <= 10.5 and min(angles) < -2 and max(angles) > 2


def test_what_fills_up_has_no_label():
    image, mask = numbered(20, 30)
    x, labels = pad_both(image + 1, mask, 32)
    assert x.shape == (32, 32, 3)
    assert (labels[20:] == 255).numpy().all() and (labels[:, 30:] == 255).numpy().all()
    np.testing.assert_array_equal(labels[:20, :30], mask)
    assert not x[20:].numpy().any() and not x[:, 30:].numpy().any()


def test_distortion_has_the_published_amounts_and_shares():
    """Brightness by up to 32, contrast by 0.5 to 1.5, each half of the time, hue by 18 of 180."""
    grey = tf.fill((4, 4, 3), 100.0)  # which saturation and hue leave
    means = np.array(
        [float(tf.reduce_mean(photometric_distortion(grey, 0.5, seed))) for seed in seeds(300)]
    )
    assert 0.15 < np.mean(np.abs(means - 100) < 1e-3) < 0.35  # a quarter has neither
    assert 32 < means.min() < 60 and 150 < means.max() <= 198
    red = tf.constant([[[200.0, 50.0, 50.0]]])
    hues = []
    for seed in seeds(100):
        r, g, b = photometric_distortion(red, 1.0, seed).numpy()[0, 0]
        high, low = max(r, g, b), min(r, g, b)
        if high - low > 1 and high < 254:
            hues.append((g - b) / (high - low) * 60)
    assert len(hues) > 50 and 28 < max(np.abs(hues)) <= 36.5
    assert photometric_distortion(red, 0.0, SEED) is red


def test_a_blur_keeps_the_mean_and_flattens():
    image, _ = numbered(40, 40)
    blurred = random_blur(image, 1.0, SEED)
    inside = (slice(8, -8),) * 2
    assert np.std(blurred[inside]) < 0.9 * np.std(image[inside])
    assert float(tf.reduce_mean(blurred)) == pytest.approx(float(tf.reduce_mean(image)), rel=0.05)
    flat = tf.fill((12, 12, 3), 50.0)
    np.testing.assert_allclose(random_blur(flat, 1.0, SEED), flat, rtol=1e-5)
    assert random_blur(tf.zeros((1, 1, 3)), 1.0, SEED).shape == (1, 1, 3)
