"""The training tests' small data and network, for programs that train."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import pytest
import small_training


@pytest.fixture(scope="session")
def source():
    return small_training.make_source()


@pytest.fixture
def tiny_network(monkeypatch):
    """Puts the small network in place of the recipe's."""
    import keras_hybrid.training.run as run

    monkeypatch.setattr(run, "make_model", small_training.make_tiny_network)
