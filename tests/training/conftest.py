"""Small data, a small recipe, and a network that trains in seconds."""

import pytest
import small_training


@pytest.fixture
def recipe():
    return small_training.RECIPE


@pytest.fixture(scope="session")
def source():
    return small_training.make_source()


@pytest.fixture
def tiny_network(monkeypatch):
    """Puts the small network in place of the recipe's."""
    import keras_hybrid.training.run as run

    monkeypatch.setattr(run, "make_model", small_training.make_tiny_network)
