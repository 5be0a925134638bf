"""int16x8: what its converter and runtime lack is written otherwise, and computes the same."""

import keras
import numpy as np
import pytest
from harness import decibels
from keras import layers as L
from keras import ops

import keras_hybrid
from keras_hybrid.layers import (
    DotProductAttention,
    FoldPatches,
    LeanLayerNormalization,
    UnfoldPatches,
)
from keras_hybrid.surgery.plain_operators import edit_operators_of_int16


def network():
    """All layers that have plain operators, where they would not take them by themselves."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = L.Activation("hard_silu")(L.Conv2D(8, 3, padding="same")(image))
    x = L.Conv2D(8, 1, activation="hard_silu")(x)
    patches = L.Dense(8)(UnfoldPatches(2)(x))
    x = L.Add()([x, FoldPatches(2)([patches, x])])
    tokens = L.Reshape((4, 8))(L.AveragePooling2D(4)(x))
    tokens = LeanLayerNormalization(beta_initializer="random_normal")(tokens)
    keys, values = L.Dense(8)(tokens), L.Dense(8)(tokens)
    x = L.Add()([x, DotProductAttention(2)([L.Conv2D(8, 1)(x), keys, values])])
    return keras.Model(image, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def test_the_same_is_computed(check_edit):
    result = check_edit(edit_operators_of_int16, network())
    plain = [x for x in result.layers if getattr(x, "plain_operators", False)]
    assert len(plain) == 4
    assert not any(
        getattr(x, "activation", None) is keras.activations.hard_silu for x in result.layers
    )


def test_the_file_is_converted_and_runs(tmp_path, require):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    model = network()
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=images
    )
    (actual,) = run_tflite(path, images).values()
    assert decibels(model(images), actual) > 30


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_classes_are_found_in_the_file(tmp_path, require, precision):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, padding="same", name="scores")(image)
    outputs = [ops.argmax(x, axis=-1), ops.argmax(x[:, 2], axis=1, keepdims=True)]
    model = keras.Model(image, outputs if precision == "float32" else outputs[0])
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    if precision == "int8":
        model = keras_hybrid.quantize(model, keep_float=model.output_names)
        keras_hybrid.calibrate(model, images, stream=None)
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite", precision)
    found = run_tflite(path, images)
    for name, expected in zip(model.output_names, keras.tree.flatten(model(images)), strict=True):
        assert found[name].dtype == np.int32
        assert np.mean(found[name] == np.asarray(expected)) > 0.99


def test_depthwise_kernels_keep_their_sums_in_the_file(tmp_path, require):
    """What the converter would round to the nearest is up to a step off on an even image."""
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 64))
    x = keras.layers.DepthwiseConv2D(3, use_bias=False, name="spatial")(image)
    model = keras.Model(image, x)
    even = np.ones((1, 8, 8, 64), "float32")
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=even
    )
    kernel = model.get_layer("spatial").kernel.numpy()
    step = np.abs(kernel).max((0, 1)).ravel() / 127
    (found,) = run_tflite(path, even).values()
    off = np.abs(found[0, 3, 3] - kernel.sum((0, 1)).ravel()) / step
    nearest = np.rint(kernel[..., 0] / step).sum((0, 1)) - kernel[..., 0].sum((0, 1)) / step
    assert off.max() < 0.55 and np.abs(nearest).max() > 0.9
