"""Layers that are called several times: their twins have weights of their own, and say so."""

import keras
import numpy as np
import pytest
from harness import decibels
from keras import layers as L

import keras_hybrid
from keras_hybrid.quantization.ranges.freezing import freeze_ranges


def dense_twice(x):
    x = L.Conv2D(8, 3, name="first")(x)
    dense = L.Dense(8, activation="relu", name="shared")
    return dense(L.GlobalAveragePooling2D()(x)), dense(L.GlobalMaxPooling2D()(x))


def slope_twice(x):
    slope = L.PReLU(alpha_initializer="random_uniform", shared_axes=[1, 2], name="shared")
    return slope(L.Conv2D(8, 3, name="first")(x)), slope(L.Conv2D(8, 3)(x))


def group_norm_twice(x):
    norm = L.GroupNormalization(2, name="shared")
    return norm(L.Conv2D(8, 3, name="first")(x)), norm(L.Conv2D(8, 3)(x))


def norm_twice(x):
    norm = L.LayerNormalization(name="shared", beta_initializer="random_normal")
    return norm(L.Conv2D(8, 3, name="first")(x)), norm(L.Conv2D(8, 3)(x))


def trunk_twice(x):
    inside = keras.Input((16, 16, 3))
    trunk = keras.Model(inside, L.Conv2D(8, 3, name="shared")(inside))
    first = L.Conv2D(3, 1, name="first")(x)
    return trunk(x), trunk(first)


def training(function, small_network, make_images):
    model = small_network(lambda x: L.Dense(2)(L.Flatten()(L.Add()(list(function(x))))))
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), make_images(4), stream=None)
    quantized.compile("sgd", "mse", jit_compile=False)
    return quantized


@pytest.mark.parametrize(
    "function", [dense_twice, slope_twice, group_norm_twice, norm_twice, trunk_twice]
)
def test_what_would_drift_apart_is_not_trained(function, small_network, make_images):
    model = training(function, small_network, make_images)
    images = make_images(4)
    model(images)
    with pytest.raises(ValueError, match="'shared' is called several times"):
        model(images, training=True)
    model.get_layer("first").trainable = False  # another's
    with pytest.raises(ValueError, match="'shared' is called several times"):
        model(images, training=True)
    twins = [x for x in model.layers if getattr(x, "shared_layer", None)]
    assert len(twins) == 2
    for layer in twins:
        layer.trainable = False
    model(images, training=True)


def test_what_is_left_is_trained_and_a_saved_model_remembers(small_network, make_images, tmp_path):
    model = training(dense_twice, small_network, make_images)
    model.save(tmp_path / "m.keras")
    model = keras.models.load_model(tmp_path / "m.keras")
    images, goals = make_images(4), np.zeros((4, 2))
    with pytest.raises(ValueError, match="'shared' is called several times"):
        model.fit(images, goals, verbose=0)
    twins = [x for x in model.layers if getattr(x, "shared_layer", None)]
    for layer in twins:
        layer.trainable = False
    model.compile("sgd", "mse", jit_compile=False)
    freeze_ranges(model)
    before = model.get_layer("first").get_weights()[0]
    model.fit(images, goals, verbose=0)
    assert np.any(before != model.get_layer("first").get_weights()[0])
    np.testing.assert_array_equal(*(layer.get_weights()[0] for layer in twins))


def test_layers_called_once_are_trained(small_network, make_images):
    model = small_network(lambda x: L.Dense(2)(L.Flatten()(L.Conv2D(4, 3)(L.Conv2D(4, 3)(x)))))
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), make_images(4), stream=None)
    quantized(make_images(4), training=True)
    assert decibels(model(make_images(4)), quantized(make_images(4))) > 25
