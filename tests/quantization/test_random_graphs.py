"""Graphs drawn at random from standard layers: the file computes what the model does."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_hybrid
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers

CHANNELS = 4


def convolution(x):
    return layers.Conv2D(CHANNELS, 1)(x)


def attention(x):
    tokens = layers.Reshape((64, CHANNELS))(x)
    return layers.Reshape((8, 8, CHANNELS))(layers.MultiHeadAttention(2, 2)(tokens, tokens))


def with_batch_norm(x):
    x = layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


OF_ONE = (
    convolution,
    attention,
    with_batch_norm,
    lambda x: layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")(x),
    lambda x: layers.DepthwiseConv2D(3, padding="same")(x),
    lambda x: layers.SeparableConv2D(CHANNELS, 3, padding="same")(x),
    lambda x: layers.Dense(CHANNELS)(x),
    lambda x: layers.LayerNormalization()(x),
    lambda x: layers.BatchNormalization()(x),
    lambda x: layers.GroupNormalization(2)(x),
    *(
        lambda x, name=name: layers.Activation(name)(x)
        for name in ("tanh", "sigmoid", "gelu", "silu", "hard_silu", "hard_sigmoid", "softplus")
    ),
    lambda x: ops.relu(x),
    lambda x: layers.ReLU(6.0)(x),
    lambda x: layers.Softmax()(x),
    lambda x: layers.ELU()(x),
    lambda x: layers.LeakyReLU(0.1)(x),
    lambda x: layers.PReLU(alpha_initializer="glorot_uniform")(x),
    lambda x: layers.MaxPooling2D(3, 1, padding="same")(x),
    lambda x: layers.AveragePooling2D(3, 1, padding="same")(x),
    lambda x: layers.MaxPooling2D(2)(layers.UpSampling2D(2)(x)),
    lambda x: layers.AveragePooling2D(2)(layers.UpSampling2D(2, interpolation="bilinear")(x)),
    lambda x: layers.ZeroPadding2D(1)(layers.Cropping2D(1)(x)),
    lambda x: ops.flip(x, 1),
    lambda x: ops.transpose(x, (0, 2, 1, 3)),
    lambda x: ops.clip(x, -0.5, 0.8),
    lambda x: x * 0.7,
    lambda x: x + 0.3,
    lambda x: -x,
    lambda x: x - ops.mean(x, axis=-1, keepdims=True),
    lambda x: x + layers.GlobalAveragePooling2D(keepdims=True)(x),
    lambda x: ops.concatenate(ops.split(x, 2, axis=-1)[::-1], -1),
)
OF_TWO = (
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: ops.maximum(x, y),
    lambda x, y: ops.minimum(x, y),
    lambda x, y: layers.ReLU()(x + y),
    lambda x, y: layers.Average()([x, y]),
    lambda x, y: convolution(layers.Concatenate()([x, y])),
    lambda x, y: layers.Concatenate()([x, y])[..., 2 : 2 + CHANNELS],
)


def drawn(seed):
    """A model of four to nine steps, of which each takes some before it."""
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, CHANNELS), name="image")
    values = [image]
    for _ in range(random.integers(4, 10)):
        if len(values) > 1 and random.uniform() < 0.45:
            two = random.choice(len(values), 2, replace=False)
            values.append(OF_TWO[random.integers(len(OF_TWO))](*(values[x] for x in two)))
        else:
            one = values[random.integers(max(0, len(values) - 3), len(values))]
            values.append(OF_ONE[random.integers(len(OF_ONE))](one))
    return keras.Model(image, convolution(values[-1]))


def decibels(signal, other):
    return 10 * np.log10(np.square(signal).sum() / (np.square(signal - other).sum() + 1e-12))


@pytest.mark.large
@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
@pytest.mark.parametrize("seed", range(24))
def test_file_is_the_model(seed, profile, tmp_path, require):
    require(module="ai_edge_litert")
    model = drawn(seed)
    images = np.random.default_rng(seed).normal(size=(16, 8, 8, CHANNELS)).astype("float32")
    quantized = keras_hybrid.quantize(model, profile)
    keras_hybrid.calibrate(quantized, images, stream=None)
    if profile == "int8":
        step = np.asarray(next(x for x in fake_quantizers(quantized) if x.profile).step())
        images = np.rint(images / step) * step
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", profile)
    (found,) = run_tflite(path, images).values()
    assert decibels(np.asarray(quantized(images)), found) > 30
    assert decibels(np.asarray(model(images)), found) > 15
