"""Mask R-CNN on every backend of Keras: the same objects, masks and losses."""

import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "instances_backend_program.py"


@pytest.mark.large
def test_backends_agree(backends, require, tmp_path):
    require(module="jax")
    require(module="torch")
    answers = {}
    for backend in ("tensorflow", "jax", "torch"):
        path = tmp_path / f"{backend}.json"
        backends.run(backend, PROGRAM, path)
        answers[backend] = json.loads(path.read_text())
    expected = answers["tensorflow"]
    assert sum("loss" in key for key in expected) == 6 and expected["image 0"][5] > 2
    for backend in ("jax", "torch"):
        found = answers[backend]
        assert set(found) == set(expected)
        for key, value in expected.items():
            # Seeds draw other anchors on other backends: 256 of a thousand.
            tolerance = 0.5 if "region" in key or key == "loss loss" else 2e-3
            assert found[key] == pytest.approx(value, rel=tolerance, abs=1e-4), (backend, key)
