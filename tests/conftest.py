"""Shared by all tests: where things are, and what a missing optional dependency means."""

import importlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "goldens")]  # harness, fill
IN_CI = os.environ.get("KERAS_HYBRID_CI") == "1"


@pytest.fixture(scope="session")
def root():
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def require():
    """Skips where an optional package, program or backend is missing; in CI, with all, fails."""

    def check(*, module=None, program=None, backend=None):
        if backend and importlib.import_module("keras").backend.backend() != backend:
            missing = f"the backend `{backend}`"
        elif module and importlib.util.find_spec(module) is None:
            missing = f"the package `{module}`"
        elif program and shutil.which(program) is None:
            missing = f"the program `{program}`"
        else:
            return
        if IN_CI:
            pytest.fail(f"CI must have {missing}")
        pytest.skip(f"needs {missing}")

    return check


@pytest.fixture(scope="session")
def fresh_process():
    """A process that reloads saved models with nothing but the package imported."""
    from harness import FreshProcess

    process = FreshProcess()
    yield process
    process.close()


@pytest.fixture(scope="session")
def programs():
    """Runs programs of the project, each in a process of its own: `programs("recipes/qat.py")`."""
    from programs import Programs

    runner = Programs()
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def backends():
    """Runs programs on other backends of Keras: `backends.run("jax", path)`."""
    from backends import Backends

    processes = Backends()
    yield processes
    processes.close()


@pytest.fixture
def recipe():
    """A recipe of seconds, for the data of `source` and the network of `tiny_network`."""
    import small_training

    return small_training.RECIPE


@pytest.fixture(scope="session")
def source():
    """Forty images of four classes."""
    import small_training

    return small_training.make_source()


@pytest.fixture
def tiny_network(monkeypatch):
    """Puts a small network in place of the recipe's."""
    import small_training

    import keras_hybrid.training.run.run as run

    monkeypatch.setattr(run, "new_network", small_training.make_tiny_network)


@pytest.fixture(scope="session")
def classifier():
    """A small classifier that converts in a second; it starts like a network of the package."""
    import keras
    from harness import randomise
    from keras import layers

    image = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(1)(image)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    x = layers.Dense(5, activation="softmax", name="classes")(x)
    return randomise(keras.Model(image, x, name="classifier"))


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Each test draws the same random weights whenever and wherever it runs."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


def pytest_collection_modifyitems(items):
    """The longest first: at the end of a run in parallel, short tests fill both workers."""
    from scheduling import rank

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests that share a fixture of their file run on one worker, so that it is made once."""
    from scheduling import SharedFixturesScheduling

    config.option.loadscopereorder = False  # the order is ours
    return SharedFixturesScheduling(config, log)
