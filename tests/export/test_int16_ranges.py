"""int16x8 of what is zero on all images, of sums, and of numbers of a wide range."""

import warnings

import keras
import numpy as np
import pytest
from harness import decibels
from keras import layers, ops

import keras_hybrid
from keras_hybrid.export.flatbuffer.file import TFLiteFile


def dead(x):
    """Zero of any image, which no converter can know."""
    return ops.relu(ops.relu(x) * -1.0)


OF_ZEROS = {
    "sigmoid": lambda x: ops.sigmoid(dead(x)),
    "tanh": lambda x: x + ops.tanh(dead(x)),
    "exponential": lambda x: ops.exp(dead(x)),
    "elu of what is positive": lambda x: ops.elu(ops.sigmoid(x)),
    "celu of what is positive": lambda x: ops.celu(ops.sigmoid(x)),
    "softmax": lambda x: ops.softmax(dead(x)),
    "least of 0 and more": lambda x: x + ops.minimum(ops.sigmoid(x), 0.0),
    "greatest of 0 and less": lambda x: x + ops.maximum(ops.sigmoid(x) * -1.0, 0.0),
    "sigmoid of next to nothing": lambda x: ops.sigmoid(x * 1e-13),
    "norm": lambda x: x + layers.LayerNormalization()(dead(x)),
    "slopes": lambda x: layers.PReLU("random_normal")(ops.relu(x)),
    "joined": lambda x: ops.concatenate([dead(x), x], axis=-1),
}
OF_A_WIDE_RANGE = {
    "softplus": lambda x: ops.softplus(20 * x),
    "softplus of a kernel": lambda x: layers.Dense(4, activation="softplus")(10 * x),
    "hard tanh of a kernel": lambda x: layers.Dense(4, activation="hard_tanh")(10 * x),
    "softplus of exponentials": lambda x: ops.softplus(ops.exp(2 * x)),
    "mish": lambda x: layers.Activation("mish")(20 * x),
    "unit length beside zeros": lambda x: layers.UnitNormalization()(layers.ZeroPadding2D(1)(x)),
}


def made(functions):
    """A model of one output a function of a kernel, and images."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    outputs = {}
    for name, function in functions.items():
        x = layers.Conv2D(4, 3, padding="same", bias_initializer="random_normal")(image)
        outputs[name.replace(" ", "_")] = function(x)
    images = np.random.default_rng(0).uniform(-1, 1, (16, 8, 8, 3)).astype("float32")
    return keras.Model(image, outputs), images


def exported(model, images, folder):
    return keras_hybrid.export_tflite(
        model, folder / "a.tflite", "int16x8", representative_data=images
    )


@pytest.mark.parametrize("functions", [OF_ZEROS, OF_A_WIDE_RANGE])
def test_file_computes_what_keras_computes(functions, tmp_path, require):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    model, images = made(functions)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The file differs")
        found = run_tflite(exported(model, images, tmp_path), images)
    for name, expected in model(images, training=False).items():
        assert decibels(np.asarray(expected), found[name]) > 30, name


def test_zeros_have_a_step_and_constants_that_are_zero(tmp_path, require):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    model, images = made({"least": OF_ZEROS["least of 0 and more"]})
    path = exported(model, images, tmp_path)
    tensors = TFLiteFile.read(path).model.subgraphs[0].tensors
    steps = [x.quantization.scale for x in tensors if x.quantization is not None]
    assert min(np.min(x) for x in steps if x is not None) > 1e-12
    (found,) = run_tflite(path, images).values()
    assert decibels(np.asarray(model(images)["least"]), found) > 30


@keras.saving.register_keras_serializable("tests")
class Total(layers.Layer):
    def call(self, x):
        return ops.sum(ops.softmax(x), axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("tests")
class Chosen(layers.Layer):
    """A sum of one number and zeros."""

    def call(self, x):
        return ops.sum(x * np.float32([0, 1, 0, 0]), axis=-1, keepdims=True)


def test_sums_that_the_converter_would_clip_are_refused(tmp_path):
    model, images = made({"sum": lambda x: layers.Dense(2)(Total(name="own")(x))})
    with pytest.raises(RuntimeError, match=r"does in 'own': write the mean.*'float16'"):
        exported(model, images, tmp_path)
    model, images = made({"sum": Total(name="own"), "other": lambda x: x})
    with pytest.raises(RuntimeError, match="does (in|after) 'own'"):
        exported(model, images, tmp_path)
    assert not list(tmp_path.iterdir())


def test_sums_that_cannot_exceed_what_they_add_up_are_taken(tmp_path, require):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    model, images = made({"chosen": lambda x: layers.Dense(2)(Chosen(name="own")(x))})
    (found,) = run_tflite(exported(model, images, tmp_path), images).values()
    assert decibels(np.asarray(model(images)["chosen"]), found) > 40


@keras.saving.register_keras_serializable("tests")
class SoftplusOfItsOwn(layers.Layer):
    """By exponentials of large numbers, whose step leaves nothing of the others."""

    def call(self, x):
        return ops.log(1 + ops.exp(40 * x))


def test_a_file_that_differs_says_by_how_much(tmp_path):
    model, images = made({"wide": SoftplusOfItsOwn(), "other": lambda x: x})
    with pytest.warns(UserWarning, match=r"'wide' -?\d.*16 bits.*'float16'") as found:
        exported(model, images, tmp_path)
    assert not any("'other'" in str(x.message) for x in found)
