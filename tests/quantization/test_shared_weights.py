"""Layers that are called several times: kernels stay one, other twins say that they are several."""

import keras
import numpy as np
import pytest
from harness import decibels
from keras import layers as L

import keras_hybrid
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.quantization.ranges.freezing import freeze_ranges
from keras_hybrid.quantization.twins.kernels import QuantizedKernel


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


def kernel_and_norm_twice(x):
    kernel = L.Conv2D(8, 3, padding="same", name="shared", activation="relu6")
    norm = L.BatchNormalization(name="norm")
    first = L.Conv2D(8, 3, name="first")(x)
    return kernel(norm(first)), kernel(norm(L.Conv2D(8, 3)(x)))


def head_thrice(x):
    levels = [L.Conv2D(8, n, padding="same", name=f"level{n}")(x) for n in (1, 3, 5)]
    shared = L.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    return [shared(level) for level in levels]


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


@pytest.mark.parametrize("function", [slope_twice, group_norm_twice])
def test_what_would_drift_apart_is_not_trained(function, small_network, make_images, tmp_path):
    model = training(function, small_network, make_images)
    images, goals = make_images(4), np.zeros((4, 2))
    model(images)
    with pytest.raises(ValueError, match="'shared' is called several times"):
        model(images, training=True)
    model.get_layer("first").trainable = False  # another's
    with pytest.raises(ValueError, match="'shared' is called several times"):
        model(images, training=True)

    model.get_layer("first").trainable = True
    model.save(tmp_path / "m.keras")
    model = keras.models.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="'shared' is called several times"):
        model.fit(images, goals, verbose=0)
    twins = [x for x in model.layers if getattr(x, "shared_layer", None)]
    assert len(twins) == 2
    for layer in twins:
        layer.trainable = False
    model.compile("sgd", "mse", jit_compile=False)
    freeze_ranges(model)
    before = model.get_layer("first").get_weights()[0]
    model.fit(images, goals, verbose=0)
    assert np.any(before != model.get_layer("first").get_weights()[0])
    np.testing.assert_array_equal(*(layer.get_weights()[0] for layer in twins))


@pytest.mark.parametrize("function", [dense_twice, kernel_and_norm_twice, trunk_twice, head_thrice])
@pytest.mark.parametrize("batch_norm", ["folded", "frozen"])
def test_kernels_of_several_calls_stay_one_layer_that_trains_and_ships(
    function, batch_norm, small_network, make_images, tmp_path
):
    images = make_images(8)
    flat = small_network(lambda x: L.Dense(2)(L.Flatten()(L.Add()(list(function(x))))))
    model = keras_hybrid.quantize(flat, batch_norm=batch_norm)
    model = keras_hybrid.calibrate(model, images, stream=None)
    assert decibels(flat(images), model(images)) > 20
    (shared,) = (x for x in model.layers if isinstance(x, QuantizedKernel) and "shared" in x.name)
    before = shared.get_weights()[0]
    model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=False)
    losses = model.fit(images, np.zeros((8, 2)), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and np.any(before != shared.get_weights()[0])

    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    path = tmp_path / "m.tflite"
    keras_hybrid.export_tflite(loaded, path, "int8")
    (found,) = run_tflite(path, images).values()
    step = float(model.layers[-1].step())
    differences = np.abs(found - np.asarray(model(images)))
    assert (differences < step / 2).mean() > 0.9  # biases are on each call's own grid


def test_calls_that_are_rewritten_differently_are_not_trained(small_network, make_images):
    def a_norm_for_one(x):
        shared = L.Conv2D(8, 3, name="shared")
        return shared(x), L.BatchNormalization()(shared(x))

    model = small_network(lambda x: L.Dense(2)(L.Flatten()(L.Add()(list(a_norm_for_one(x))))))
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), make_images(4), stream=None)
    twins = [x for x in quantized.layers if isinstance(x, QuantizedKernel) and "shared" in x.name]
    assert len(twins) == 2  # the norm is in one of their kernels
    with pytest.raises(ValueError, match="'shared' is called several times"):
        quantized(make_images(4), training=True)


def test_layers_called_once_are_trained(small_network, make_images):
    model = small_network(lambda x: L.Dense(2)(L.Flatten()(L.Conv2D(4, 3)(L.Conv2D(4, 3)(x)))))
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), make_images(4), stream=None)
    quantized(make_images(4), training=True)
    assert decibels(model(make_images(4)), quantized(make_images(4))) > 25
