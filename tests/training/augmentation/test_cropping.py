"""Crops: closed-form properties over many draws, and plain references."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_hybrid.image_files import decode_tensor
from keras_hybrid.training.augmentation import cropping

DRAWS = 1000


@pytest.fixture(scope="module")
def boxes():
    area, aspect = (0.1, 0.5), (3 / 4, 4 / 3)  # all of these fit into 500 x 375
    draw = tf.function(
        lambda seed: cropping.random_crop_box(375, 500, area, aspect, tf.stack([seed, 1]))
    )
    return np.array([draw(tf.constant(seed)).numpy() for seed in range(DRAWS)])


def test_random_crops_lie_inside_the_image(boxes):
    top, left, height, width = boxes.T
    assert (boxes >= 0).all() and (height > 0).all() and (width > 0).all()
    assert (top + height <= 375).all() and (left + width <= 500).all()


def test_random_crops_have_the_area_and_aspect_asked_for(boxes):
    height, width = boxes[:, 2], boxes[:, 3]
    # Sides are whole pixels: half a pixel of the smallest side, 100, is 0.5 % of the area.
    share = height * width / (375 * 500)
    assert share.min() > 0.1 * 0.98 and share.max() < 0.5 * 1.02
    aspect = width / height
    assert aspect.min() > 0.75 * 0.98 and aspect.max() < 4 / 3 * 1.02
    # Uniform over the area, log-uniform over the aspect.
    assert abs(np.mean(share < 0.2) - 0.25) < 0.05
    assert abs(np.median(np.log(aspect))) < 0.05
    assert len({tuple(box) for box in boxes}) > 0.9 * DRAWS


def test_an_image_that_no_crop_fits_gets_the_largest_central_one():
    box = cropping.random_crop_box(100, 1000, (0.9, 1.0), (0.75, 4 / 3), tf.constant([1, 2]))
    np.testing.assert_array_equal(box, [0, 434, 100, 133])


@pytest.mark.parametrize("height, width", [(100, 1000), (600, 60)])
def test_crops_for_a_stretch_have_the_image_s_aspect_and_reach_all_of_it(height, width):
    draw = tf.function(
        lambda seed: cropping.random_crop_box(
            height, width, (0.5, 1.0), (0.75, 4 / 3), tf.stack([seed, 1]), "stretch"
        )
    )
    found = np.array([draw(tf.constant(seed)).numpy() for seed in range(100)])
    top, left, heights, widths = found.T
    assert (top + heights <= height).all() and (left + widths <= width).all()
    aspect = (widths / width) / (heights / height)
    assert aspect.min() > 0.73 and aspect.max() < 1.37
    assert (left.min(), top.min()) == (0, 0)
    assert (left + widths).max() == width and (top + heights).max() == height


def test_a_stretched_image_is_all_there():
    x, y = np.meshgrid(np.arange(120), np.arange(40))
    image = np.stack([2 * x, 5 * y, x + y], -1).clip(0, 255).astype("uint8")
    png = tf.io.encode_png(image)
    actual = cropping.decode_central_crop(png, 30, 1.0, "bilinear", "stretch").numpy()
    expected = np.asarray(Image.fromarray(image).resize((30, 30), Image.Resampling.BILINEAR))
    assert np.abs(actual - expected).max() < 2.0
    central = cropping.decode_central_crop(png, 30, 1.0, "bilinear").numpy()
    assert np.abs(central - expected).max() > 50  # which has its middle third alone


def test_a_jpeg_is_cropped_as_any_other_image():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 80, 3)).astype("uint8")
    jpeg = tf.io.encode_jpeg(image, quality=95)
    png = tf.io.encode_png(decode_tensor(jpeg))
    results = [
        cropping.decode_random_crop(file, 32, (0.2, 0.5), (0.8, 1.2), "bilinear", [3, 4]).numpy()
        for file in (jpeg, png)
    ]
    np.testing.assert_allclose(results[0], results[1], atol=0.5)  # colours at the border
    assert results[0].shape == (32, 32, 3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_evaluation_crop_is_pillows(interpolation):
    x, y = np.meshgrid(np.arange(90), np.arange(70))
    image = np.stack([2 * x, 3 * y, x + y], -1).clip(0, 255).astype("uint8")
    actual = cropping.decode_central_crop(tf.io.encode_png(image), 40, 0.8, interpolation).numpy()
    method = getattr(Image.Resampling, interpolation.upper())
    resized = Image.fromarray(image).resize((64, 50), method)
    expected = np.asarray(resized.crop((12, 5, 52, 45)))
    assert np.abs(actual - expected).max() < 2.0  # Pillow rounds to whole numbers, twice


def test_random_interpolation_takes_either():
    file = tf.io.encode_png(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype("uint8"))
    crop = tf.function(
        lambda method, seed: cropping.decode_random_crop(
            file, 16, (0.5, 0.6), (1.0, 1.1), method, seed
        )
    )
    kinds = set()
    for seed in range(20):
        found = crop("random", tf.constant([seed, 1])).numpy()
        for method in ("bilinear", "bicubic"):
            if np.allclose(found, crop(method, tf.constant([seed, 1])).numpy(), atol=1e-3):
                kinds.add(method)
                break
        else:
            raise AssertionError("neither")
    assert kinds == {"bilinear", "bicubic"}


def test_a_grey_image_becomes_rgb():
    file = tf.io.encode_png(np.full((9, 9, 1), 70, "uint8"))
    image = cropping.decode_central_crop(file, 16, 1.0, "bilinear").numpy()
    np.testing.assert_allclose(image, np.full((16, 16, 3), 70), atol=1e-3)


def test_flips_come_as_often_as_asked():
    image = tf.constant(np.arange(12, dtype="float32").reshape(1, 4, 3))
    flip = tf.function(lambda seed: cropping.random_flip(image, 0.3, tf.stack([seed, 0])))
    flipped = [np.array_equal(flip(tf.constant(seed)), image[:, ::-1]) for seed in range(DRAWS)]
    assert abs(np.mean(flipped) - 0.3) < 0.05
    assert cropping.random_flip(image, 0, [0, 0]) is image


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 9), (13, 8), (20, 30), (5, 31)], ids=str)
def test_resizing_is_antialiased_whatever_the_size(size, interpolation):
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (13, 17, 3)).astype("float32"))
    expected = tf.image.resize(image, size, interpolation, antialias=True)
    expected = np.clip(expected, 0, 255)
    found = cropping.resize(image, tf.stack(size), interpolation)
    np.testing.assert_allclose(found, expected, atol=1e-2)
