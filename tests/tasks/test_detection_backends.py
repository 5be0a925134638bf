"""Losses, training and detection on every backend of Keras: the same numbers."""

import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "detection_backend_program.py"


@pytest.fixture(scope="module")
def answer(backends, tmp_path_factory):
    def run(backend):
        path = tmp_path_factory.mktemp("detection") / f"{backend}.json"
        backends.run(backend, PROGRAM, path)
        return json.loads(path.read_text())

    return run


@pytest.mark.large
def test_backends_agree(answer, require):
    require(module="jax")
    require(module="torch")
    expected = answer("tensorflow")
    assert sum("loss" in key for key in expected) == 9
    for backend in ("jax", "torch"):
        found = answer(backend)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-3, abs=1e-5), (backend, key)
