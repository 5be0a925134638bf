"""Kernels on grids of 8 bits, rounded for the inputs that they are multiplied by."""

import numpy as np
import pytest

from keras_hybrid.export.int16 import kernel_rounding
from keras_hybrid.export.int16.kernel_rounding import BLOCK, SPAN, round_for_inputs


def alike(random, groups, inputs, rows=4096):
    """Inputs as neighboring pixels are: (groups, rows, inputs), most of each the same for all."""
    common = random.uniform(0, 1, (groups, rows, 1))
    return common + 0.2 * random.normal(size=(groups, rows, inputs))


def steps_of(kernel):
    """The steps that a converter finds."""
    step = np.abs(kernel).max(1, keepdims=True) / 127
    return np.where(step == 0, 1, step)


def nearest_to(kernel):
    """Each weight to the nearest."""
    step = steps_of(kernel)
    return np.rint(kernel / step) * step


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
    step = steps_of(found)
    assert np.abs(found / step - np.rint(found / step)).max() < 1e-3  # on the grid
    moved = np.abs(found).max(1) / np.abs(kernel).max(1) - 1
    assert np.abs(moved).max() < (SPAN + 0.01) / 127
    unseen = alike(random, groups, inputs)
    assert error(found - kernel, unseen) < 0.5 * error(nearest_to(kernel) - kernel, unseen)


def test_small_kernels_take_the_best_of_several_steps(monkeypatch):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(200, 9, 1)).astype("float32")
    rows = alike(random, 200, 9)
    products = rows.swapaxes(1, 2) @ rows / rows.shape[1]
    found = error(round_for_inputs(kernel, products) - kernel, rows)
    monkeypatch.setattr(kernel_rounding, "MOST_STEPS", 1)
    assert found < 0.7 * error(round_for_inputs(kernel, products) - kernel, rows)


def test_weights_that_do_not_act_together_go_to_the_nearest_of_a_grid():
    random = np.random.default_rng(0)
    kernel = random.normal(size=(2, 30, 4)).astype("float32")
    for products in (np.eye(30), np.diag(random.uniform(0.1, 5, 30))):
        found = round_for_inputs(kernel, np.stack([products] * 2))
        off = np.abs(found - kernel) / steps_of(found)
        off[np.abs(kernel) == np.abs(kernel).max(1, keepdims=True)] = 0
        assert off.max() < 0.5 + 1e-3
        mine, nearest = (
            np.einsum("gio,ij,gjo->go", change, products, change)
            for change in (found - kernel, nearest_to(kernel) - kernel)
        )
        assert (mine <= nearest * (1 + 1e-6)).all()


def test_kernels_of_inputs_never_seen_are_near():
    kernel = np.random.default_rng(0).normal(size=(2, 30, 4)).astype("float32")
    found = round_for_inputs(kernel, np.zeros((2, 30, 30)))
    assert error(found - kernel, np.eye(30)) <= error(nearest_to(kernel) - kernel, np.eye(30))


def test_kernels_of_zeros_and_of_one_value_stay():
    kernel = np.zeros((1, 9, 3), "float32")
    kernel[..., 1] = 0.25
    kernel[0, 0, 2], kernel[0, 4, 2] = 30.0, -30.0
    rows = alike(np.random.default_rng(0), 1, 9)
    found = round_for_inputs(kernel, rows.swapaxes(1, 2) @ rows)
    np.testing.assert_allclose(found[..., :2], kernel[..., :2], atol=1e-6)
    assert abs(found[0, 0, 2]) == pytest.approx(30, rel=1e-6)
