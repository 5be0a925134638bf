"""Gradients of what int8 rounds to nothing: finite, as one that is not ruins all weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_hybrid
from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.ranges.freezing import freeze_ranges

COARSE = 1e6  # a range of which all sums here are less than half a step


def from_tokens(image, tokens):
    return layers.Dense(3)(DotProductAttention(2)([tokens, image, image]))


def to_tokens(image, tokens):
    return layers.Conv2D(3, 1)(DotProductAttention(2)([image, tokens, tokens]))


@pytest.mark.parametrize("target", ["cpu", "npu"])
@pytest.mark.parametrize("function", [from_tokens, to_tokens])
def test_a_row_whose_sum_is_rounded_to_0_leaves_gradients_finite(function, target):
    image = keras.Input((32, 32, 4))
    pooled = layers.Dense(8)(layers.GlobalAveragePooling2D()(image))
    model = keras.Model(image, function(image, layers.Reshape((2, 4))(pooled)))
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 4)).astype("float32")
    quantized = keras_hybrid.quantize(model, target=target)
    keras_hybrid.calibrate(quantized, images, stream=None)
    sums = [layer for layer in fake_quantizers(quantized) if layer.path.endswith("_sum")]
    assert sums or (function is to_tokens and target == "cpu")  # which has the operator
    for layer in sums:
        layer.set_range(0.0, COARSE)
    freeze_ranges(quantized)
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(quantized(images, training=True) ** 2)
    gradients = tape.gradient(loss, quantized.trainable_variables)
    assert all(np.isfinite(np.asarray(x)).all() for x in gradients if x is not None)
