"""What TFLite has no operator for: written otherwise where it can be, one clear error else."""

import keras
import numpy as np
import pytest
from harness import decibels
from keras import layers, ops

import keras_hybrid
from keras_hybrid.export.convert import PRECISIONS
from keras_hybrid.export.inspect import inspect_tflite


def kernel(x, **options):
    return layers.Conv2D(4, 1, bias_initializer="random_normal", **options)(x)


def gelu(x):
    return ops.gelu(x, approximate=False)


AROUND_GELU = {
    "relu": lambda x: ops.relu(gelu(kernel(x))),
    "relu6 after an activation": lambda x: layers.Activation("relu6")(
        layers.Activation("gelu")(kernel(x))
    ),
    "of a kernel": lambda x: layers.ReLU()(kernel(x, activation="gelu")),
    "of a function": lambda x: layers.ReLU()(layers.Activation(lambda x: gelu(x))(kernel(x))),
    "up to 4": lambda x: layers.ReLU(max_value=4)(gelu(3 * kernel(x))),
    "clip": lambda x: ops.clip(gelu(kernel(x)), -0.1, 0.3),
    "dropped out between": lambda x: layers.ReLU()(layers.Dropout(0.1)(gelu(kernel(x)))),
    "of what changes sign": lambda x: gelu(-kernel(x)),
    "by tanh": lambda x: layers.ReLU()(ops.gelu(kernel(x))),
    "both": lambda x: ops.maximum(gelu(-gelu(kernel(x))), 0.0),
}
WITHOUT_OPERATOR_IN_INT16 = {
    "negative": lambda x: -x,
    "square": ops.square,
    "elu": ops.elu,
    "ELU": lambda x: layers.ELU(0.4)(x),
    "elu of a kernel": lambda x: kernel(x, activation="elu"),
    "selu": ops.selu,
    "celu": ops.celu,
    "hard_silu": ops.hard_silu,
    "slopes": lambda x: layers.PReLU(alpha_initializer="random_normal")(x),
    "slopes of channels": lambda x: layers.PReLU("random_normal", shared_axes=[1, 2])(x),
    "to one": lambda x: ops.clip(2 * x, -1.0, 1.0),
    "hard tanh": lambda x: layers.Activation("hard_tanh")(2 * x),
    "groups": lambda x: layers.GroupNormalization(2, gamma_initializer="random_normal")(x),
    "instances": lambda x: layers.GroupNormalization(-1)(x),
    "sum": lambda x: ops.sum(x, (1, 2)),
    "sum of channels": lambda x: ops.sum(x, axis=-1, keepdims=True),
    "unit length": lambda x: layers.UnitNormalization()(x),
    "unit length of a map": lambda x: layers.UnitNormalization(axis=[1, 2, 3])(x),
    "groups of rows": lambda x: layers.GroupNormalization(2)(layers.Reshape((64, 4))(x)),
}


def made(functions):
    """A model of one output a function, and images."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4), name="image")
    model = keras.Model(image, {name.replace(" ", "_"): f(image) for name, f in functions.items()})
    return model, np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype("float32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gelu_comes_through_beside_what_the_converter_folds(precision, tmp_path, require):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    model, images = made(AROUND_GELU)
    data = {"representative_data": images} if precision.startswith("int") else {}
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite", precision, **data)
    found, least = run_tflite(path, images), {"float32": 100, "float16": 60}.get(precision, 25)
    for name, expected in model(images).items():
        assert decibels(np.asarray(expected), found[name]) > least, name
    assert "LEAKY_RELU" not in inspect_tflite(path).ops


def test_layers_without_operators_in_int16_are_written_with_others(tmp_path, require):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    model, images = made(WITHOUT_OPERATOR_IN_INT16)
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=images
    )
    found = run_tflite(path, images)
    for name, expected in model(images).items():
        assert decibels(np.asarray(expected), found[name]) > 30, name


def test_what_has_no_operator_in_int16_is_named(tmp_path):
    image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 1)(image)
    x = layers.Activation("softsign", name="odd")(x)
    model = keras.Model(image, [kernel(x), 1 / (1.5 + ops.tanh(x))])
    with pytest.raises(RuntimeError, match=r"DIV \(in 'odd.*DIV \(after .*int8_cpu.*'int16x8'"):
        keras_hybrid.export_tflite(
            model,
            tmp_path / "a.tflite",
            "int16x8",
            representative_data=np.ones((2, 8, 8, 4), "float32"),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_has_no_operator_at_all_is_named(precision, tmp_path):
    image = keras.Input((8, 8, 4), name="image")
    x = layers.Lambda(lambda x: ops.erfinv(ops.tanh(x)), name="odd")(layers.Conv2D(4, 1)(image))
    with pytest.raises(RuntimeError, match=r"Erfinv \(in 'odd/.*other layers"):
        keras_hybrid.export_tflite(keras.Model(image, x), tmp_path / "a.tflite", precision)


def test_what_the_converter_refuses_of_grids_is_named_with_a_remedy(tmp_path):
    """It moves a fresh norm's reshape behind the product."""
    image = keras.Input((8, 8, 4), name="image")
    x = layers.GroupNormalization(2, name="norm")(kernel(image))
    model = keras.Model(image, layers.Multiply(name="square")([x, x]))
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    with pytest.raises(
        RuntimeError, match=r"at 'square.*'norm.*same scale.*keep_float=\('square',\)"
    ):
        keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    quantized = keras_hybrid.quantize(model, keep_float=("square",))
    keras_hybrid.calibrate(quantized, images, stream=None)
    keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
