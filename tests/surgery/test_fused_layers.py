"""The layers that fused models have in place of others."""

import numpy as np
import pytest
from harness import assert_close, check_layer

from keras_hybrid import layers


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.large
@pytest.mark.parametrize("zero_mean", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("rows", [5, 20])
def test_lean_layer_norm(random, tmp_path, fresh_process, zero_mean, affine, rows):
    # Values so small that epsilon counts.
    x = 0.01 * random.normal(size=(2, rows, 8)).astype("float32")
    if zero_mean:
        x -= x.mean(-1, keepdims=True)
    layer = layers.LeanLayerNormalization(
        zero_mean=zero_mean, epsilon=1e-5, center=affine, scale=affine
    )
    outputs = check_layer(layer, x, tolerance=1e-5, tmp_path=tmp_path, fresh_process=fresh_process)
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    assert_close(outputs, [expected], 1e-5)


def test_lean_layer_norm_is_for_the_last_axis(random):
    with pytest.raises(ValueError, match="last one. Received: axis"):
        layers.LeanLayerNormalization(axis=1)(np.ones((2, 3, 4), "float32"))


@pytest.mark.parametrize("batch", [1, 2])
def test_two_slope_relu(random, tmp_path, fresh_process, batch):
    x = random.normal(size=(batch, 3, 4, 6)).astype("float32")
    first, second = (random.normal(size=(batch, 6)).astype("float32") for _ in range(2))
    outputs = check_layer(
        layers.TwoSlopeReLU(0.5),
        [x, first, second],
        tolerance=1e-5,
        tmp_path=tmp_path,
        fresh_process=fresh_process,
    )
    wide = [slope[:, None, None] for slope in (0.5 * first, second)]
    assert_close(outputs, [np.maximum(x * wide[0], x * wide[1])], 1e-5)


def test_two_slope_relu_refuses_other_channels():
    ones = np.ones((1, 2, 2, 6), "float32")
    with pytest.raises(ValueError, match="Two slopes a channel"):
        layers.TwoSlopeReLU()([ones, ones[:, 0, 0, :3], ones[:, 0, 0]])
