"""The goldens of the dense systems."""

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fill import fill

DENSE = Path(__file__).parents[1] / "goldens" / "dense"
sys.path.insert(0, str(DENSE))  # dense_inputs

TAP_BAR = 5e-5  # of the golden's standard deviation


@functools.cache
def _read(name):
    return json.loads((DENSE / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def dense_golden():
    """name -> the golden's fields."""
    return _read


@pytest.fixture(scope="session")
def filled_state():
    """The golden's weights, made from names and shapes, as a published state dict."""

    def state(golden):
        scale = tuple(golden["norm_scale"])
        return {
            name: fill(name, shape, golden["seed"], scale) for name, shape in golden["state_dict"]
        }

    return state


@pytest.fixture(scope="session")
def check_tap():
    """Compares one of our maps with the golden's samples of it."""

    def check(array, expected, where):
        array = np.transpose(np.asarray(array), (0, 3, 1, 2)).astype("float64")
        assert list(array.shape) == expected["shape"], where
        flat = array.ravel()
        values = flat[:: expected["step"]] if "step" in expected else flat[expected["indices"]]
        error = np.abs(values - np.array(expected["values"])).max() / expected["std"]
        assert error <= TAP_BAR, f"{where}: {error:.1e} of its deviation off"
        assert abs(array.mean() - expected["mean"]) <= TAP_BAR * expected["std"], f"{where} mean"
        assert abs(array.std(ddof=1) - expected["std"]) <= TAP_BAR * expected["std"], where

    return check
