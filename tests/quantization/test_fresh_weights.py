"""Weights as they are before training: zeros and ones, which random ones never are."""

import keras
import numpy as np
import pytest
from harness import decibels
from keras import layers as L

import keras_hybrid
from keras_hybrid.export.verify import run_tflite

DIFFERENT = (
    "MobileFormer26M",
    "MobileFormer151M",
    "MobileViTXXS",
    "MobileViTS",
    "IFormerT",
    "IFormerM",
)
QUICK = ("MobileFormer26M", "IFormerT")


def pixels(model, size=64):
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype("float32")
    return np.asarray(keras_hybrid.preprocess_input(images, model))


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.large) for name in DIFFERENT],
)
def test_fresh_networks_are_converted_and_agree(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_hybrid.build_model(name, weights=None, classes=5, input_shape=(64, 64, 3))
    images = pixels(model)
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "x.tflite", precision="int8")
    (shipped,) = run_tflite(path, images).values()
    rounded = quantized(images)
    assert decibels(rounded, shipped) >= 35
    # Of a fresh network all scores are nearly equal: int8 itself leaves 24 dB of MobileViT-S.
    assert decibels(model(images), rounded) >= 20


def norm(x, gamma, beta, layer=L.LayerNormalization):
    """One whose scale and offset cannot go into what follows."""
    x = layer(
        gamma_initializer=keras.initializers.Constant(gamma),
        beta_initializer=keras.initializers.Constant(beta),
    )(x)
    return L.Add()([x, L.Conv2D(8, 3, padding="same")(x)])


def dead_channel(x):
    """A kernel's channel of zeros, with a bias that stays."""
    layer = L.Conv2D(8, 3)
    x = layer(x)
    kernel, bias = layer.get_weights()
    kernel[..., 2], bias[2] = 0.0, 0.7
    layer.set_weights([kernel, bias])
    return x


CONSTANTS = {
    "neutral_norm": lambda x: norm(x, 1.0, 0.0),
    "ones_but_for_rounding": lambda x: norm(x, [1.0] * 7 + [0.999], 0.0),
    "norm_of_zeros": lambda x: norm(x, 0.0, 0.25),
    "neutral_scale_alone": lambda x: norm(x, 1.0, 0.5),
    "neutral_offset_alone": lambda x: norm(x, 0.5, 0.0),
    "neutral_group_norm": lambda x: norm(x, 1.0, 0.0, lambda **o: L.GroupNormalization(2, **o)),
    "dead_kernel": lambda x: L.Conv2D(8, 3, kernel_initializer="zeros", activation="relu")(x),
    "dead_channel": dead_channel,
    "dead_everywhere": lambda x: L.Multiply()([x, L.Conv2D(8, 1, kernel_initializer="zeros")(x)]),
    "factor_of_1": lambda x: L.Conv2D(8, 1)(L.Rescaling(1.0)(x)),
    "divisor_of_1": lambda x: L.Conv2D(8, 1)(x / 1.0 + 0.0),
}


@pytest.mark.large
@pytest.mark.parametrize("case", CONSTANTS)
@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
def test_constants_that_change_nothing(case, profile, make_images, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = CONSTANTS[case](L.Conv2D(8, 3, strides=2, padding="same")(image))
    model = keras.Model(image, L.Dense(4)(L.Flatten()(x)))
    images = make_images(8)
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model, profile), images, stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "x.tflite", precision=profile)
    (shipped,) = run_tflite(path, images).values()
    if np.any(model(images)):
        assert decibels(quantized(images), shipped) >= 35
        assert decibels(model(images), quantized(images)) >= 25
    else:
        np.testing.assert_array_equal(shipped, 0)


@pytest.mark.parametrize(
    ("case", "scale", "center"),
    [
        ("neutral_norm", False, False),
        ("ones_but_for_rounding", False, False),
        ("neutral_scale_alone", False, True),
        ("neutral_offset_alone", True, False),
        ("norm_of_zeros", True, True),
    ],
)
def test_what_changes_nothing_is_not_rounded(case, scale, center):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, CONSTANTS[case](L.Conv2D(8, 3)(image)))
    (layer,) = (
        x
        for x in keras_hybrid.quantize(model).layers
        if isinstance(x, keras.layers.LayerNormalization)
    )
    assert (layer.scale, layer.center) == (scale, center)


def test_a_channel_of_zeros_has_a_grid():
    image = keras.Input((16, 16, 3))
    quantized = keras_hybrid.quantize(keras.Model(image, dead_channel(image)))
    (kernel,) = (x for x in quantized.layers if isinstance(x, keras.layers.Conv2D))
    low, high = (np.asarray(kernel.kernel_range[x]) for x in ("min_var", "max_var"))
    assert high[2] == high.max() > 0 and low[2] == low.min() < 0
    assert len(np.unique(high)) == 7


def test_a_sum_with_tokens_of_zeros_is_left_out(make_images):
    from keras_hybrid.layers import GlobalTokens

    image = keras.Input((16, 16, 3))
    x = L.Reshape((64, 8))(L.Conv2D(8, 3, strides=2, padding="same")(image))
    x = L.Add(name="positions")([x, GlobalTokens(64, 8, name="tokens")(image)])
    model = keras.Model(image, L.Dense(4)(L.Flatten()(x)))
    assert "positions" in [x.name for x in keras_hybrid.quantize(model).layers]
    model.get_layer("tokens").set_weights([np.zeros((64, 8))])
    assert "positions" not in [x.name for x in keras_hybrid.quantize(model).layers]
