"""Goldens, files made from them, and published homes on loopback."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import published
import pytest


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


homes_server = _module("homes_server", Path(__file__).parent / "homes_server.py")


class Golden:
    """A golden, its weights, its input and its logits."""

    def __init__(self, name):
        self.name = name
        self.builder, self.options = published.GOLDEN_MODELS[name]
        self.resolution = published.golden(name)["resolution"]
        self.logits = np.asarray(published.golden(name)["logits"])

    def state_dict(self):
        return published.golden_state_dict(self.name)

    def build(self, **options):
        import keras_hybrid

        return keras_hybrid.build_model(
            self.builder,
            **{
                "weights": None,
                "classifier_activation": None,
                "input_shape": (self.resolution, self.resolution, 3),
                **self.options,
                **options,
            },
        )

    def error(self, model):
        """Largest deviation of a model's logits, in standard deviations of the golden's."""
        outputs = model.predict(published.golden_images(self.name), verbose=0)
        return np.abs(outputs - self.logits).max() / self.logits.std()


@pytest.fixture(scope="session")
def golden():
    """A golden by name."""
    return Golden


@pytest.fixture
def program():
    """A program of recipes/ as a module."""

    def load(name):
        root = Path(__file__).parent.parent.parent
        return _module(f"program_{name}", root / "recipes" / f"{name}.py")

    return load


@pytest.fixture
def homes(monkeypatch, tmp_path):
    """Published homes on loopback, an empty cache, and no other way out."""
    server = homes_server.serve()
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.homes.address)
    monkeypatch.setenv("KERAS_HYBRID_GITHUB_ENDPOINT", server.homes.address)
    monkeypatch.setenv("KERAS_HYBRID_DRIVE_ENDPOINT", server.homes.address)
    monkeypatch.setenv("KERAS_HYBRID_APPLE_ENDPOINT", server.homes.address)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("keras_hybrid.weights.pretrained.download.BACKOFF", 0.01)
    yield server.homes
    server.shutdown()
    server.server_close()
