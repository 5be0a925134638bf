"""8-bit pixels on int8's grid, however they were scaled: Keras and the file round them alike."""

import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.ranges.pixel_grid import SeenLevels

PIXELS = np.arange(256, dtype="float32")
SCALINGS = {
    "0 to 255": PIXELS,
    "0 to 1": PIXELS / 255,
    "-1 to 1": PIXELS / 127.5 - 1,
    "-0.5 to 0.5": PIXELS / 255 - 0.5,
    "caffe, grey": PIXELS - 128,
}


def range_of(values):
    levels = SeenLevels()
    levels.add(np.asarray(values, "float32"))
    return levels.range()


def position(values, limits):
    """Where values lie, in steps of a range from its lower end, as TensorFlow nudges it."""
    low, high = limits
    step = (high - low) / 255
    return np.asarray(values, "float64") / step - np.round(low / step)


@pytest.mark.parametrize("name", SCALINGS)
def test_pixels_are_on_the_grid_or_clear_of_ties(name):
    values = SCALINGS[name]
    limits = range_of(values)
    where = position(values, limits)
    assert where.min() > -0.01 and where.max() < 255.01
    off = np.abs(where - np.round(where))
    between = abs((-values[0] / (values[1] - values[0])) % 1 - 0.5) < 0.1
    assert off.max() < (0.4985 if between else 1e-3)
    assert np.sqrt(np.mean(off**2)) < 0.3, "no more than any rounding"


def test_dark_pictures_leave_room_for_bright_ones():
    low, high = range_of(PIXELS[:100] / 255)
    assert low == 0 and high == pytest.approx(1, rel=1e-4)


def test_few_levels_get_a_finer_grid():
    """Digits of 17 levels."""
    low, high = range_of(np.arange(17) / 16)
    assert low == 0 and 1 <= high < 1.1
    where = position(np.arange(17) / 16, (low, high))
    np.testing.assert_allclose(where, np.round(where), atol=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=100),
        np.random.default_rng(0).normal(size=10000),
        [0.0, 1.0],
        [3.0],
        (PIXELS[:, None] / 255 - [0.485, 0.456]) / [0.229, 0.224],
    ],
    ids=["few", "many", "two", "one", "channels"],
)
def test_other_values_are_on_none(values):
    assert range_of(values) is None


def test_levels_are_those_of_all_batches():
    levels = SeenLevels()
    for start in range(0, 256, 32):
        levels.add(PIXELS[start : start + 32] / 127.5 - 1)
    assert levels.range() == pytest.approx(range_of(SCALINGS["-1 to 1"]), rel=1e-5)
    levels = SeenLevels()
    levels.add(np.array([0.123], "float32"))  # off the grid of the pixels that follow
    levels.add(PIXELS[:100] / 127.5 - 1)
    assert levels.range() is None


@pytest.mark.parametrize("name", ["0 to 1", "-1 to 1", "0 to 255"])
def test_a_convolution_of_pixels_is_the_same_in_keras_and_in_the_file(
    small_network, through_int8, name
):
    photos = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3))
    images = SCALINGS[name][photos]

    def function(image):
        if name == "0 to 255":
            image = L.Rescaling(1 / 127.5, offset=-1)(image)
        return L.Conv2D(8, 3, padding="same", activation="relu")(image)

    result = through_int8(small_network(function), images=images)
    assert result.from_keras >= 60
    assert result.from_float >= 35


def test_the_grid_is_that_of_the_input(small_network):
    model = small_network(lambda image: L.Conv2D(4, 3)(image))
    quantized = keras_hybrid.quantize(model)
    images = SCALINGS["-1 to 1"][np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3))]
    keras_hybrid.calibrate(quantized, images, stream=None)
    low, high = fake_quantizers(quantized)[0].range
    assert (high - low) / 255 == pytest.approx(1 / 127)
