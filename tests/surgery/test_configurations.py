"""What layers that are made again were given: Keras' own configurations do not hold all of it."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid.quantization.rules import LAYERS
from keras_hybrid.quantization.standard_layers import rewrite
from keras_hybrid.surgery.layer_traits import AFFINE
from keras_hybrid.surgery.steps import UNWRITTEN, config_of

REQUIRED = {
    **{"filters": 4, "kernel_size": 3, "units": 4, "pool_size": 2, "size": 2, "n": 2, "scale": 2.0},
    **{"target_shape": (4,), "dims": (2, 1, 3), "num_heads": 2, "key_dim": 4, "axes": 1},
    **{"height": 4, "width": 4, "activation": "relu", "pooled": (4, 4)},
}
# What changes nothing that is computed in inference.
OF_TRAINING = ("lora_alpha", "lora_rank", "seed")
KERAS_LAYERS = sorted(
    {
        x
        for x in (*LAYERS, *rewrite.LAYERS, *AFFINE, *UNWRITTEN)
        if x.__module__.startswith("keras.")
    }
    | {L.BatchNormalization, L.LayerNormalization, L.Normalization},
    key=lambda x: x.__name__,
)


def others(default):
    """Values unlike a default one."""
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, (int, float)):
        return [default + 1, default / 2 or 0.25]
    return [0.5, 3] if default is None else ["same", "bilinear", "relu", "ones"]


@pytest.mark.parametrize("layer_class", KERAS_LAYERS, ids=lambda x: x.__name__)
def test_arguments_survive(layer_class):
    given = inspect.signature(layer_class.__init__).parameters.values()
    given = [x for x in given if x.kind is x.POSITIONAL_OR_KEYWORD and x.name != "self"]
    required = {x.name: REQUIRED.get(x.name, 2) for x in given if x.default is x.empty}
    layer_class(**required)
    for parameter in given:
        if parameter.name in required or parameter.name in OF_TRAINING:
            continue
        for value in others(parameter.default):
            try:
                layer = layer_class(**required, **{parameter.name: value})
            except (ValueError, TypeError):  # no such value
                continue
            again = layer_class.from_config(config_of(layer))
            kept, wanted = (getattr(x, parameter.name, None) for x in (again, layer))
            assert repr(kept) == repr(wanted) or "object at" in repr(wanted), parameter.name


def elu(policy="float32"):
    image = keras.Input((4, 4, 3))
    x = L.Conv2D(4, 1, dtype=policy)(image)
    return keras.Model(image, L.ELU(np.float32(0.3), dtype=policy, name="elu")(x))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_slope_of_elu_survives(policy):
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    model = elu(policy)
    exact = np.asarray(model(images)).astype("float32")
    np.testing.assert_allclose(keras_hybrid.fuse(model)(images), exact, atol=5e-3)
    model = elu(policy)
    model.get_layer("elu").alpha = 0.7
    exact = np.asarray(model(images)).astype("float32")
    np.testing.assert_allclose(keras_hybrid.fuse(model)(images), exact, atol=5e-3)
