"""Layer norms of tokens whose sizes differ much: a few stretch the squares' grid for all."""

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.ranges.summed_squares import MAXIMUM_ROWS, SummedSquares

CHANNELS = 64


def tokens(loud):
    """Tokens like those of a network on pictures with plain parts: deviations from 0.2 to 4."""
    random = np.random.default_rng(0)
    deviations = np.where(random.random((64, 8, 8, 1)) < loud, 4.0, 0.3)
    return (deviations * random.normal(size=(64, 8, 8, CHANNELS))).astype("float32")


def quantized(images):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, CHANNELS))
    x = keras.layers.Conv2D(CHANNELS, 1, name="mix")(inputs)
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(8, 1, name="out")(x))
    twin = keras_hybrid.quantize(model)
    return model, keras_hybrid.calibrate(twin, images, stream=None)


def squares_of(twin):
    (found,) = [x for x in fake_quantizers(twin) if x.name == "squares"]
    return found


def decibels(expected, found):
    return 10 * np.log10(np.var(expected) / np.mean((expected - found) ** 2))


def test_loud_tokens_do_not_silence_the_others():
    images = tokens(loud=0.01)
    model, twin = quantized(images)
    squares = squares_of(twin)
    clipped = decibels(model.predict(images, verbose=0), twin.predict(images, verbose=0))
    assert squares.range[1] < 0.6 * squares.seen_range[1]
    squares.set_range(*squares.seen_range)
    whole = decibels(model.predict(images, verbose=0), twin.predict(images, verbose=0))
    assert clipped > whole + 3


def test_tokens_alike_keep_the_whole_range():
    squares = squares_of(quantized(tokens(loud=1.0))[1])
    assert squares.limits is None
    assert squares.range[1] == pytest.approx(squares.seen_range[1])


def test_training_keeps_to_the_clipped_range_and_calibration_starts_anew(tmp_path):
    images = tokens(loud=0.01)
    _, twin = quantized(images)
    high = squares_of(twin).range[1]
    twin.compile("sgd", "mse", jit_compile=False)
    twin.fit(images, np.zeros((64, 8, 8, 8)), 16, epochs=2, verbose=0)
    assert squares_of(twin).range[1] <= high * 1.001
    twin.save(tmp_path / "twin.keras")
    again = keras.models.load_model(tmp_path / "twin.keras")
    assert squares_of(again).limits == (0.0, pytest.approx(high))
    keras_hybrid.calibrate(again, tokens(loud=1.0), stream=None)
    assert squares_of(again).limits is None
    assert squares_of(again).range[1] > 1.5 * high


def test_memory_does_not_grow_and_axes_are_those_that_are_summed():
    random = np.random.default_rng(0)
    rows = SummedSquares((1, -1))
    for _ in range(40):
        rows.add(random.random((50, 4, 30, 4)).astype("float32"))
    rows.add(np.zeros((0, 4, 30, 4), "float32"))
    kept = np.concatenate(rows._rows)
    assert kept.shape[1] == 16
    assert MAXIMUM_ROWS / 4 < len(kept) <= MAXIMUM_ROWS


def test_all_columns_of_a_map_are_drawn_alike():
    """A map 32 wide: its loud part is one column, which no regular step may miss or prefer."""
    values = np.full((100, 32, 32, 8), 0.01, "float32")
    values[:, :, 0] = 4.0
    rows = SummedSquares((-1,))
    for image in values:
        rows.add(image[None])
    loud = np.mean(np.concatenate(rows._rows)[:, 0] > 1)
    assert loud == pytest.approx(1 / 32, abs=0.012)
