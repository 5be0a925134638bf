"""int16x8: kernels that images leave at zero, and equal biases, come through as they are."""

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.flatbuffer.quantization_steps import check_steps
from keras_hybrid.export.int16.silent_kernels import edit_int16_kernels
from keras_hybrid.export.signature import output_names
from keras_hybrid.surgery.editable_model import EditableModel

BIAS = {"bias_initializer": keras.initializers.RandomNormal(0, 0.5, seed=1)}
IMAGES = np.random.default_rng(0).uniform(0, 1, (8, 8, 8, 3)).astype("float32")
KINDS = {
    "dense": lambda: L.Dense(6, **BIAS),
    "gelu": lambda: L.Dense(6, activation="gelu", **BIAS),
    "einsum": lambda: L.EinsumDense("abcd,def->abcef", (8, 8, 2, 3), bias_axes="ef", **BIAS),
    "conv": lambda: L.Conv2D(6, 3, padding="same", **BIAS),
    "strided": lambda: L.Conv2D(6, 1, strides=2, **BIAS),
    "depthwise": lambda: L.DepthwiseConv2D(3, padding="same", **BIAS),
    "separable": lambda: L.SeparableConv2D(6, 3, padding="same", **BIAS),
    "transposed": lambda: L.Conv2DTranspose(6, 2, strides=2, **BIAS),
}


@pytest.fixture(scope="module")
def model():
    """Kernels after a ReLU that lets nothing through, and a zero kernel after one that does."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    dead = L.Conv2D(8, 1, bias_initializer=keras.initializers.Constant(-50.0), activation="relu")
    x = dead(image)
    outputs = [kind()(x) for kind in KINDS.values()]
    outputs.append(L.Conv1D(6, 3, padding="same", **BIAS)(L.Reshape((64, 8))(x)))
    live = L.Conv2D(8, 1, activation="relu")(image)
    outputs.append(L.Dense(6, kernel_initializer="zeros", **BIAS)(live))
    outputs.append(L.Dense(6, **BIAS)(live))
    return keras.Model(image, outputs)


@pytest.mark.parametrize("fused", [True, False])
def test_the_bias_comes_through(model, tmp_path, require, fused):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=IMAGES, fused=fused
    )
    found = run_tflite(path, IMAGES)
    pairs = zip(model(IMAGES), output_names(model), strict=True)
    *silent, live = [(expected, found[name]) for expected, name in pairs]
    for expected, actual in silent:
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(actual, expected, atol=1e-3)
    np.testing.assert_allclose(live[1], live[0], atol=0.03)


def test_what_sees_something_stays(model):
    edited = EditableModel(model)
    edit_int16_kernels([image[None] for image in IMAGES])(edited)
    result = edited.to_model()
    for expected, actual in zip(model(IMAGES), result(IMAGES), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    woken = [layer.name for layer in result.layers if layer.name.endswith("_constant")]
    assert len(woken) == len(KINDS) + 2  # all but the last dense layer


def test_steps_that_are_no_numbers_are_refused(model, tmp_path):
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=IMAGES
    )
    file = TFLiteFile.read(path)
    check_steps(file)
    graph = file.model.subgraphs[0]
    kernel = next(x for x in graph.operators if file.operator_name(x) == "CONV_2D").inputs[1]
    graph.tensors[kernel].quantization.scale = np.array([np.inf], "float32")
    with pytest.raises(RuntimeError, match="no range for 1 tensors"):
        check_steps(file)


def test_equal_biases_stay_those_of_their_layers(tmp_path, require):
    """The converter makes them one constant, with the step of one of the layers."""
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    outputs = []
    for factor in (1.0, 100.0):
        x = L.Rescaling(factor)(L.Conv2D(8, 1, activation="relu")(image))
        outputs += [L.Dense(6, **BIAS)(x), L.Conv2D(6, 3, padding="same", **BIAS)(x)]
    model = keras.Model(image, outputs)
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=IMAGES
    )
    found = run_tflite(path, IMAGES)
    for expected, name in zip(model(IMAGES), output_names(model), strict=True):
        greatest = float(np.abs(expected).max())
        np.testing.assert_allclose(found[name], expected, atol=0.02 * greatest)


def test_attention_of_keras_is_converted(tmp_path, require):
    """Its scale is a number, a constant without axes."""
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    tokens = L.Reshape((64, 3))(image)
    model = keras.Model(image, L.MultiHeadAttention(2, 4)(tokens, tokens))
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=IMAGES
    )
    (found,) = run_tflite(path, IMAGES).values()
    np.testing.assert_allclose(found, model(IMAGES), atol=0.02)
