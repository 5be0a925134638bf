"""Biases on the grid of int8 kernels' sums: what Keras computes, the file computes."""

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid import layers as hybrid
from keras_hybrid.quantization.twins.biases import rounded_bias
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.quantization.twins.roundings_around import rounding_before


def convolutions(image):
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="first")(image)
    x = L.DepthwiseConv2D(3, padding="same", name="second")(x)
    x = L.Add(name="sum")([x, L.Conv2D(16, 1, name="third")(x)])
    x = L.Reshape((64, 16), name="flat")(x)
    return L.Dense(5, name="last")(L.Dense(32, activation="relu", name="hidden")(x))


@pytest.fixture
def model(small_network, make_images):
    quantized = keras_hybrid.quantize(small_network(convolutions))
    return keras_hybrid.calibrate(quantized, make_images(), stream=None)


def kernels(model):
    return [layer for layer in model.layers if isinstance(layer, QuantizedKernel)]


def test_the_bias_is_a_whole_number_of_steps(model):
    for layer in kernels(model):
        low, high = rounding_before(layer).range
        kernel = np.asarray(layer.kernel_range["max_var"], "float64")
        step = (high - low) / 255 * kernel / 127
        bias = np.asarray(rounded_bias(layer, layer.bias, layer._step()))
        assert np.abs(bias / step - np.round(bias / step)).max() < 1e-2
        error = np.abs(bias - np.asarray(layer.bias))
        assert (error <= step * 0.51).all() and error.max() > 0


@pytest.mark.large
def test_the_file_computes_the_same_bit_by_bit(small_network, through_int8):
    """Of a few tens of thousands of roundings, next to none falls the other way."""
    assert through_int8(small_network(convolutions)).from_keras >= 60


@pytest.mark.parametrize("many_weights", [False, True])
def test_the_file_holds_the_very_biases(make_images, tmp_path, require, monkeypatch, many_weights):
    """Large ones: one in a hundred falls the other way where a step is off by its last bit."""
    require(module="ai_edge_litert")
    from keras_hybrid.litert import open_interpreter

    if many_weights:  # kernels are beside the graph
        monkeypatch.setattr("keras_hybrid.export.saved_model.MANY_WEIGHTS", 0)
        monkeypatch.setattr("keras_hybrid.export.saved_model.FEW_WEIGHTS", 2048)
    image = keras.Input((8, 8, 3))
    layer = L.Dense(2048, bias_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=0))
    x = L.GlobalAveragePooling2D()(L.Conv2D(8, 1, activation="relu")(image))
    quantized = keras_hybrid.quantize(keras.Model(image, layer(x)))
    keras_hybrid.calibrate(quantized, make_images(size=8), stream=None)
    last = kernels(quantized)[-1]
    step = np.asarray(rounding_before(last).step() * last._step(), "float64")
    expected = np.rint(np.asarray(rounded_bias(last, last.bias, last._step())) / step)
    assert np.abs(expected).max() > 10_000
    file = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    interpreter = open_interpreter(file)
    (index,) = (
        x["index"]
        for x in interpreter.get_tensor_details()
        if x["dtype"] == np.int32 and tuple(x["shape"]) == (2048,)
    )
    np.testing.assert_array_equal(interpreter.get_tensor(index), expected)


def test_the_rounding_is_found_behind_what_moves_values(model):
    found = {layer.name: rounding_before(layer).name for layer in kernels(model)}
    assert found == {
        "first": "image_rounded",
        "second": "first_rounded",
        "third": "second_rounded",
        "hidden": "sum_rounded",
        "last": "hidden_rounded",
    }


def test_a_dynamic_relu_rounds_inside(small_network):
    def function(image):
        x = L.Conv2D(8, 3, name="first")(image)
        slopes = L.Dense(16)(L.GlobalAveragePooling2D()(x))
        return L.Conv2D(4, 1, name="behind")(hybrid.DynamicReLU(name="relu")([x, slopes]))

    quantized = keras_hybrid.quantize(small_network(function))
    layer = quantized.get_layer("behind")
    assert rounding_before(layer) is quantized.get_layer("relu").lines


def test_gradients_pass_straight_through(model, make_images):
    import tensorflow as tf

    last = model.get_layer("last")
    bias = last.bias
    with tf.GradientTape() as tape:
        rounded = rounded_bias(last, last.bias, last._step())
        total = tf.reduce_sum(rounded)
    np.testing.assert_array_equal(tape.gradient(total, bias.value), np.ones(5))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(make_images(2), training=True))
    assert np.abs(tape.gradient(total, bias.value)).max() > 0


def test_exact_models_and_calibration_take_the_bias_as_it_is(model):
    layer = model.get_layer("last")
    layer.exact = True
    assert rounded_bias(layer, layer.bias, layer._step()) is layer.bias
    layer.exact = False
    rounding_before(layer).exact = True
    assert rounded_bias(layer, layer.bias, layer._step()) is layer.bias
    rounding_before(layer).exact = False
    assert rounded_bias(layer, layer.bias, layer._step()) is not layer.bias


def test_a_layer_outside_of_a_model_has_no_rounding():
    from keras_hybrid.quantization.twins.kernels import QuantizedDense

    layer = QuantizedDense(3)
    layer(np.ones((1, 4), "float32"))
    assert rounding_before(layer) is None


def test_a_channel_of_zeros_has_a_bias(small_network, make_images):
    network = small_network(lambda image: L.Conv2D(4, 1, name="first")(image))
    kernel, bias = network.get_layer("first").get_weights()
    kernel[..., 1] = 0
    network.get_layer("first").set_weights([kernel, bias])
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(network), make_images(), stream=None)
    scores = np.asarray(quantized(make_images(2)))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[..., 1], bias[1], atol=np.abs(scores).max() / 100)


def test_biases_are_rounded_in_training_once_ranges_are_frozen(model, make_images):
    """Before, ranges move, and are those that TFMOT finds, which does not round biases."""
    layer, seen = model.get_layer("last"), []
    rounding = rounding_before(layer)
    values = np.asarray(rounding(np.random.default_rng(0).normal(size=(2, 64, 32)), training=False))
    exact = np.asarray(layer.bias)

    def added(training):
        with_bias = np.asarray(layer(values, training=training))
        layer.bias.assign(np.zeros(5))
        without = np.asarray(layer(values, training=training))
        layer.bias.assign(exact)
        return (with_bias - without).mean((0, 1))

    for frozen in (False, True):
        layer.frozen = frozen
        seen.append(np.abs(added(training=True) - exact).max())
    expected = np.abs(np.asarray(rounded_bias(layer, layer.bias, layer._step())) - exact).max()
    assert seen[0] < expected / 10 and seen[1] == pytest.approx(expected, rel=0.2)


def test_it_holds_after_reloading(model, make_images, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert rounding_before(again.get_layer("hidden")) is again.get_layer("sum_rounded")
    np.testing.assert_array_equal(again(make_images(4)), model(make_images(4)))
