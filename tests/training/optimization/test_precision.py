"""The width that a run computes in, by the devices that there are."""

import dataclasses

import keras
import pytest
import tensorflow as tf

from keras_hybrid.training.optimization.precision import precision_of
from keras_hybrid.training.run.run import new_network, training_network


@pytest.fixture
def auto(recipe):
    return dataclasses.replace(recipe, precision="auto")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((7, 5), "float32"),
        ((8, 0), "mixed_bfloat16"),
        ((9, 0), "mixed_bfloat16"),
        ((12, 0), "mixed_bfloat16"),
        (None, "float32"),
    ],
)
def test_auto_is_what_the_gpu_has(monkeypatch, auto, capability, expected):
    details = {} if capability is None else {"compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["gpu"])
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert precision_of(auto) == expected


def test_on_a_tpu(monkeypatch, auto):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [kind] * 8)
    assert precision_of(auto) == "mixed_bfloat16"


def test_on_jax_the_capability_is_a_text(monkeypatch, auto, require):
    require(module="jax")
    import jax

    class Device:
        platform, compute_capability = "gpu", "8.9"

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert precision_of(auto) == "mixed_bfloat16"
    Device.compute_capability = "7.5"
    assert precision_of(auto) == "float32"
    Device.platform, Device.compute_capability = "tpu", None
    assert precision_of(auto) == "mixed_bfloat16"


def test_on_a_cpu_auto_changes_nothing(auto):
    model = new_network(auto, 4)
    assert precision_of(auto) == "float32" and training_network(auto, model) is model


def test_what_a_recipe_says_holds(recipe):
    said = dataclasses.replace(recipe, precision="mixed_float16")
    assert precision_of(said) == "mixed_float16"
    with pytest.raises(ValueError, match="precision"):
        dataclasses.replace(recipe, precision="bf16")
