"""Small classifiers and their files, made once."""

import json
import os
import subprocess

import numpy as np
import pytest
from harness import randomise

pytest.importorskip("tensorflow")

SIZE = 96  # the smallest map then has 3 x 3 pixels: no dimension is 1 by chance
CLASSES = 10


@pytest.fixture(scope="session")
def network():
    """Builds a network of the package with random weights, batch norm's included."""
    import keras_hybrid

    def build(name, size=SIZE, classes=CLASSES, **options):
        shape = (size, size, 3)
        return randomise(
            keras_hybrid.build_model(
                name, weights=None, input_shape=shape, classes=classes, **options
            )
        )

    return build


@pytest.fixture(scope="session")
def exported(network, tmp_path_factory, require):
    """A network of the package by name, and its float32 file."""
    import keras_hybrid

    require(module="ai_edge_litert")
    made = {}

    def export(name):
        if name not in made:
            model = network(name)
            path = tmp_path_factory.mktemp("exported") / f"{name}.tflite"
            made[name] = (model, keras_hybrid.export_tflite(model, path))
        return made[name]

    return export


@pytest.fixture
def noise():
    """Images (n, size, size, 3) of unit noise."""

    def make(count, size=16, seed=0):
        random = np.random.default_rng(seed)
        return random.normal(size=(count, size, size, 3)).astype("float32")

    return make


@pytest.fixture(scope="session")
def mediapipe(root, require):
    """Runs a program in MediaPipe's environment, which `make mediapipe` makes."""
    python = os.environ.get("KERAS_HYBRID_MEDIAPIPE") or root / ".venv-mediapipe/bin/python"
    require(program=os.fspath(python))

    def run(program, *arguments):
        command = [python, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return run
