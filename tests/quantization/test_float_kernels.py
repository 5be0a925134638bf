"""What a quantised model computes in float: to the last bit what the file's kernels add up."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.quantization.twins.float_guard import FloatConv2D

SIZE = 48

STEMS = {
    "as most": lambda x: layers.Conv2D(16, 3, strides=2, padding="same", name="stem")(x),
    "cut": lambda x: layers.Conv2D(16, 3, strides=2, name="stem")(x),
    "large": lambda x: layers.Conv2D(12, 7, strides=(2, 1), padding="same", name="stem")(x),
    "patches": lambda x: layers.Conv2D(32, 4, strides=4, use_bias=False, name="stem")(x),
    "dilated": lambda x: layers.Conv2D(16, 3, dilation_rate=2, padding="same", name="stem")(x),
    "of one pixel": lambda x: layers.Conv2D(16, 1, name="stem")(x),
    "of few pixels": lambda x: layers.Conv2D(16, 1, strides=2, name="stem")(x),
    "with an activation": lambda x: layers.Conv2D(16, 3, strides=2, activation="relu", name="stem")(
        x
    ),
    "before ReLU6": lambda x: layers.ReLU(6.0)(layers.Conv2D(16, 3, strides=2, name="stem")(x)),
}


def with_stem(function, channels=3, seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, channels), name="image")
    x = layers.Conv2D(8, 1, name="next")(function(image))
    model = keras.Model(image, x)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(keras.random.normal(layer.bias.shape))
    return model


def pixels(count, channels=3, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, SIZE, SIZE, channels)).astype("float32") / 255


@pytest.mark.parametrize("name", STEMS)
def test_a_stem_in_float_is_added_up_as_in_the_file(name, tmp_path, require):
    require(module="ai_edge_litert")
    model = with_stem(STEMS[name])
    model.name = "with_stem"
    quantized = keras_hybrid.quantize(model, "int8_cpu")
    keras_hybrid.calibrate(quantized, pixels(32), stream=None)
    assert isinstance(quantized.get_layer("stem"), FloatConv2D)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "stem.tflite", "int8_cpu")
    assert not {"RELU", "RELU6"} & set(inspect_tflite(path).ops)  # the kernel's own
    images = pixels(100, seed=1)
    (expected,) = run_tflite(path, images).values()
    # An integer of the stem's that is another changes all channels of what is next.
    np.testing.assert_allclose(
        quantized.predict(images, verbose=0), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def test_a_graph_for_others_and_training_have_the_plain_convolution():
    import tensorflow as tf

    quantized = keras_hybrid.quantize(with_stem(STEMS["as most"]), "int8_cpu")
    stem = quantized.get_layer("stem")
    images = pixels(2)
    plain = keras.layers.Conv2D.from_config(stem.get_config())
    plain.build(images.shape)
    plain.set_weights(stem.get_weights())
    for result in (stem(images, training=True), tf.function(stem)(images)):
        np.testing.assert_array_equal(result, plain(images))
    kinds = {x.type for x in tf.function(stem).get_concrete_function(images).graph.get_operations()}
    assert "Conv2D" in kinds and not kinds & {"ExtractImagePatches", "ConcatV2"}


@pytest.mark.parametrize("channels", [60, 64], ids=["short sum", "long sum"])
def test_long_sums_are_plain(channels):
    random = np.random.default_rng(0)
    layer = FloatConv2D(4, 3)
    images = random.normal(size=(2, 5, 5, channels)).astype("float32")
    plain = keras.layers.Conv2D(4, 3)
    plain.build(images.shape)
    layer.build(images.shape)
    layer.set_weights(plain.get_weights())
    equal = np.array_equal(layer(images), plain(images))
    np.testing.assert_allclose(layer(images), plain(images), rtol=1e-4, atol=1e-5)
    assert equal == (channels * 9 >= 512)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_an_activation_inside_is_applied_once(activation):
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype("float32")
    plain = keras.layers.Conv2D(4, 3, activation=activation, bias_initializer="normal")
    layer = FloatConv2D(4, 3, activation=activation)
    plain.build(images.shape)
    layer.build(images.shape)
    layer.set_weights(plain.get_weights())
    np.testing.assert_allclose(layer(images), plain(images), rtol=1e-5, atol=1e-6)


def test_guards_change_nothing_for_keras():
    quantized = keras_hybrid.quantize(with_stem(STEMS["as most"]), "int8_cpu")
    guards = [x for x in quantized.layers if type(x).__name__ == "FloatGuard"]
    assert guards
    for guard in guards:
        values = -np.abs(np.random.default_rng(0).normal(size=(1, 4, 4, 3))).astype("float32")
        np.testing.assert_array_equal(guard(values), values)


def test_a_saved_model_has_them_again(tmp_path):
    quantized = keras_hybrid.quantize(with_stem(STEMS["as most"]), "int8_cpu")
    keras_hybrid.calibrate(quantized, pixels(8), stream=None)
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.get_layer("stem"), FloatConv2D)
    np.testing.assert_array_equal(loaded(pixels(2)), quantized(pixels(2)))
