"""Kernels on grids of 8 bits, rounded for the inputs that they are multiplied by."""

import numpy as np
import pytest

from keras_hybrid.export.int16.kernel_rounding import BLOCK, round_for_inputs


def alike(random, groups, inputs, rows=4096):
    """Inputs as neighboring pixels are: (groups, rows, inputs), most of each the same for all."""
    common = random.uniform(0, 1, (groups, rows, 1))
    return common + 0.2 * random.normal(size=(groups, rows, inputs))


def steps_of(kernel):
    step = np.abs(kernel).max(1, keepdims=True) / 127
    return np.where(step == 0, 1, step)


def error(change, rows):
    """Of the outputs, for a change of the kernel."""
    return np.square(rows @ change).mean()


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs"), [(1, 40, 16), (1, 3 * BLOCK + 5, 8), (24, 9, 1), (6, 9, 2)]
)
def test_outputs_are_nearer_than_by_the_nearest_weights(groups, inputs, outputs):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(groups, inputs, outputs)).astype("float32")
    rows = alike(random, groups, inputs)
    found = round_for_inputs(kernel, rows.swapaxes(1, 2) @ rows / rows.shape[1])
    step = steps_of(kernel)
    assert np.abs(found / step - np.rint(found / step)).max() < 1e-3  # on the grid
    np.testing.assert_allclose(np.abs(found).max(1), np.abs(kernel).max(1), rtol=1e-6)
    nearest = np.rint(kernel / step) * step
    unseen = alike(random, groups, inputs)
    assert error(found - kernel, unseen) < 0.5 * error(nearest - kernel, unseen)


def test_alone_each_weight_goes_to_the_nearest():
    random = np.random.default_rng(0)
    kernel = random.normal(size=(2, 30, 4)).astype("float32")
    step = steps_of(kernel)
    for products in (np.eye(30), np.zeros((30, 30)), np.diag(random.uniform(0, 5, 30))):
        found = round_for_inputs(kernel, np.stack([products] * 2))
        np.testing.assert_allclose(found, np.rint(kernel / step) * step, atol=1e-6)


def test_kernels_of_zeros_and_of_one_value_stay():
    kernel = np.zeros((1, 9, 3), "float32")
    kernel[..., 1] = 0.25
    kernel[0, 0, 2], kernel[0, 4, 2] = 30.0, -30.0
    rows = alike(np.random.default_rng(0), 1, 9)
    found = round_for_inputs(kernel, rows.swapaxes(1, 2) @ rows)
    np.testing.assert_allclose(found[..., :2], kernel[..., :2], atol=1e-6)
    assert abs(found[0, 0, 2]) == pytest.approx(30, rel=1e-6)
