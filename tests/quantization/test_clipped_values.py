"""What a ReLU or a clip follows: one rounding in the file, and one in Keras, on one grid."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness import decibels
from keras import layers, ops

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers


def kernel(x, **options):
    return layers.Conv2D(4, 3, padding="same", bias_initializer="random_normal", **options)(x)


def pooled(x):
    return layers.GlobalAveragePooling2D(keepdims=True)(x)


BEFORE = {
    "sum": lambda x: x + kernel(x),
    "difference": lambda x: x - kernel(x),
    "product": lambda x: x * kernel(x),
    "sum with a mean": lambda x: x + pooled(x),
    "product with a mean": lambda x: pooled(x) * x,
    "subtract": lambda x: layers.Subtract()([x, kernel(x)]),
    "maximum": lambda x: ops.maximum(x, kernel(x)),
    "average": lambda x: layers.Average()([x, kernel(x)]),
    "factors of channels": lambda x: ops.tanh(x) * np.array([0.3, 1, -2, 0.5], "float32"),
    "rescaling": lambda x: layers.Rescaling(1.7, 0.2)(ops.tanh(x)),
    "batch norm": lambda x: layers.BatchNormalization()(ops.tanh(x)),
    "layer norm": lambda x: layers.LayerNormalization()(x),
    "unit norm": lambda x: layers.UnitNormalization()(x),
    "silu": ops.silu,
    "elu": ops.elu,
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "tanh": ops.tanh,
    "leaky": lambda x: layers.LeakyReLU(0.1)(x),
    "leaky, an operation": lambda x: ops.leaky_relu(x, 0.3),
    "leaky, steep": lambda x: layers.LeakyReLU(1.5)(x),
    "leaky, of a kernel": lambda x: kernel(x, activation="leaky_relu"),
    "average pooling": lambda x: layers.AveragePooling2D(2)(x),
    "max pooling": lambda x: layers.MaxPooling2D(2)(x),
    "max pooling of a sum": lambda x: layers.MaxPooling2D(2)(x + kernel(x)),
    "mean": pooled,
    "padding": lambda x: layers.ZeroPadding2D(1)(x),
    "another clip": lambda x: ops.clip(3 * kernel(x), -1.0, 0.5),
    "concatenation": lambda x: layers.Concatenate()([x, kernel(x)]),
}
CLIPS = {
    "none": lambda x: 0.7 * x,
    "relu": ops.relu,
    "ReLU": lambda x: layers.ReLU()(x),
    "relu6": lambda x: layers.Activation("relu6")(3 * x),
    "-1 to 1": lambda x: ops.clip(x, -1.0, 1.0),
    "0 to 4": lambda x: layers.ReLU(max_value=4)(3 * x),
}


def network(clip, beside=False):
    """A clip after each; `beside` a kernel that reads what is clipped, too."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4), name="image")
    outputs = {}
    for name, function in BEFORE.items():
        value = function(kernel(image))
        name = name.replace(" ", "_").replace(",", "")
        outputs[name] = CLIPS[clip](value)
        if beside:
            outputs[f"{name}_beside"] = kernel(value)
    return keras.Model(image, outputs)


def images():
    return np.random.default_rng(0).uniform(-1, 1, (16, 8, 8, 4)).astype("float32")


@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("beside", [False, True])
def test_file_rounds_what_keras_rounds(clip, beside, profile, tmp_path, require):
    require(module="ai_edge_litert")
    model = network(clip, beside)
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model, profile), images(), stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", profile)
    assert profile == "int8_cpu" or not inspect_tflite(path).integer_offenders
    found, expected, exact = run_tflite(path, images()), quantized(images()), model(images())
    for name, values in expected.items():
        values, floats = np.asarray(values), np.asarray(exact[name])
        differ = np.abs(found[name] - values) > 1e-3 * np.abs(values).max()
        assert differ.mean() <= (0 if profile == "int8" else 1e-3), name
        assert np.square(found[name] - floats).mean() < 1e-2 * np.square(floats).mean(), name


def test_clips_after_what_rounds_cost_no_operator(tmp_path):
    """Nor of what a kernel before a max pooling clips."""
    image = keras.Input((8, 8, 4), name="image")
    x = ops.relu(layers.MaxPooling2D(2)(kernel(image)))
    x = ops.relu(x + kernel(x))
    x = ops.clip(ops.silu(x) - x, -1.0, 1.0)
    path = keras_hybrid.export_tflite(
        keras.Model(image, x), tmp_path / "a.tflite", "int8", representative_data=images()
    )
    ops_of_file = inspect_tflite(path).ops
    assert not {"RELU", "MINIMUM", "MAXIMUM"} & set(ops_of_file)
    assert ops_of_file["QUANTIZE"] <= 1 and ops_of_file["MUL"] == 1


@pytest.mark.parametrize("training", [False, True])
def test_zero_of_an_even_range_is_where_the_converter_has_it(training, tmp_path, require):
    """From -1 to 1 and from -3 to 7, it lies half way between two of 256 values."""
    require(module="ai_edge_litert")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4), name="image")
    x = kernel(image)
    both = layers.Concatenate()([x, -x])
    clips = {
        "even": ops.clip(4 * kernel(image), -1.0, 1.0),
        "odd": ops.clip(40 * kernel(image), -3.0, 7.0),
    }
    model = keras.Model(image, {"both": both, **clips})
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images(), stream=None)
    if training:  # ranges follow what they see
        for _ in range(20):
            quantized(images(), training=True)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    found, expected = run_tflite(path, images()), quantized(images())
    for name, values in expected.items():
        assert not np.any(np.abs(found[name] - values) > 1e-3 * np.abs(values).max())
    for low, high in (x.range for x in fake_quantizers(quantized) if x.limits):
        places = -255 * low / (high - low)
        assert abs(places - round(places)) < 0.01


def twice(function):
    def model(x):
        x = function(x)
        return x * x

    return model


SPELLED_OTHERWISE = {
    "square, reshaped": twice(lambda x: layers.Reshape((64, 4))(x)),
    "square, reshaped twice": twice(lambda x: ops.reshape(layers.Reshape((64, 4))(x), (-1, 256))),
    "square of a dense sequence": twice(
        lambda x: layers.Dense(3, activation="relu")(layers.Reshape((64, 4))(x))
    ),
    "square of attention": twice(
        lambda x: layers.MultiHeadAttention(2, 2)(*[layers.Reshape((64, 4))(x)] * 2)
    ),
    "nothing left": lambda x: ops.relu(ops.clip(x, -1.0, 0.0)),
    "square of a part": twice(lambda x: ops.split(x, 2, axis=-1)[1]),
    "sum, flat": lambda x: layers.Add()([layers.Flatten()(x)] * 2),
    "mean of one": lambda x: ops.add(*(pooled(y) for y in (pooled(x), ops.max(x, (1, 2), True)))),
    "sum of one": lambda x: ops.sum(ops.sum(x, axis=-1, keepdims=True), axis=-1) + 0.1,
    "gelu of what moves": lambda x: ops.gelu(layers.MaxPooling2D(2)(ops.flip(x, 1)), False),
}


@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
def test_what_the_converter_would_turn_round_is_spelled_otherwise(profile, tmp_path, require):
    require(module="ai_edge_litert")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4), name="image")
    outputs = {n.replace(" ", "_"): f(kernel(image)) for n, f in SPELLED_OTHERWISE.items()}
    outputs = {name.replace(",", ""): value for name, value in outputs.items()}
    quantized = keras_hybrid.quantize(keras.Model(image, outputs), profile)
    keras_hybrid.calibrate(quantized, images(), stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", profile)
    assert profile == "int8_cpu" or not inspect_tflite(path).integer_offenders
    found, expected = run_tflite(path, images()), quantized(images())
    for name, values in expected.items():
        assert found[name].shape == values.shape
        differ = np.abs(found[name] - values) > 1e-3 * np.abs(values).max()
        assert differ.mean() <= (0 if profile == "int8" else 1e-3), name


BESIDE_ZEROS = {
    "relu": (ops.relu, 13),  # int8 tells lengths from a sixteenth of the greatest
    "padded": (lambda x: layers.ZeroPadding2D(1)(x), 25),
}


@pytest.mark.parametrize("before", BESIDE_ZEROS)
def test_vectors_of_zeros_leave_others_their_unit_length(before, tmp_path, require):
    require(module="ai_edge_litert")
    keras.utils.set_random_seed(0)
    function, least = BESIDE_ZEROS[before]
    image = keras.Input((8, 8, 4), name="image")
    model = keras.Model(image, layers.UnitNormalization()(function(kernel(image))))
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images(), stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images()).values()
    assert decibels(np.asarray(model(images())), found) > least
    assert decibels(np.asarray(quantized(images())), found) > 30
    quantized.trainable = True
    with tf.GradientTape() as tape:
        loss = ops.mean(quantized(images(), training=True)[..., 0])
    gradients = tape.gradient(loss, quantized.trainable_variables)
    assert all(np.isfinite(x).all() for x in gradients if x is not None)
