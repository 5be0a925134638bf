"""Kernels on int8's grid: a scale for each output channel, and what training does to it."""

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_hybrid.quantization.twins import kernels

# How to make the float layer, its twin, the input's shape, and the number of output channels.
LAYERS = {
    "convolution": (lambda: L.Conv2D(6, 3), kernels.QuantizedConv2D, (1, 8, 8, 4), 6),
    "depthwise": (
        lambda: L.DepthwiseConv2D(3, depth_multiplier=2),
        kernels.QuantizedDepthwiseConv2D,
        (1, 8, 8, 4),
        8,
    ),
    "dense": (lambda: L.Dense(6), kernels.QuantizedDense, (1, 4), 6),
    "dense_of_tokens": (lambda: L.Dense(6), kernels.QuantizedDense, (1, 5, 4), 6),
}


@pytest.fixture(params=LAYERS)
def twin(request):
    """A quantised layer whose channels differ in size, the float one, and what to compare with."""
    make, twin, shape, channels = LAYERS[request.param]

    def by_channel(kernel):
        return np.asarray(kernel).reshape(-1, channels)

    layer = make()
    quantized = twin.from_config(layer.get_config())
    layer.build(shape)
    quantized.build(shape)
    random = np.random.default_rng(0)
    kernel = random.normal(size=layer.kernel.shape).astype("float32")
    sizes = 4.0 ** np.arange(channels)
    kernel = (by_channel(kernel) * sizes).reshape(kernel.shape)
    bias = random.normal(size=layer.bias.shape)
    for each in (layer, quantized):
        each.kernel.assign(kernel)
        each.bias.assign(bias)
    quantized.reset_range()
    images = random.normal(size=(2, *shape[1:])).astype("float32")
    return quantized, layer, by_channel, images


def test_each_channel_has_127_steps_on_either_side(twin):
    quantized, layer, by_channel, _ = twin
    original = by_channel(layer.kernel)
    rounded = by_channel(quantized.quantized_kernel())
    step = np.abs(original).max(0) / 127
    np.testing.assert_allclose(np.abs(rounded).max(0), np.abs(original).max(0), rtol=1e-6)
    np.testing.assert_allclose(rounded / step, np.round(original / step), atol=1e-2)
    low, high = (np.asarray(quantized.kernel_range[name]) for name in ("min_var", "max_var"))
    np.testing.assert_allclose(high, np.abs(original).max(0), rtol=1e-6)
    np.testing.assert_array_equal(low, -high)


def test_the_layer_computes_with_the_rounded_kernel(twin):
    quantized, layer, _, images = twin
    layer.kernel.assign(np.reshape(quantized.quantized_kernel(), layer.kernel.shape))
    expected = np.asarray(layer(images))
    np.testing.assert_allclose(quantized(images), expected, rtol=1e-4, atol=1e-4)
    quantized.exact = True
    assert np.abs(np.asarray(quantized(images)) - expected).max() > 1e-3


def test_ranges_follow_kernels_in_training_alone(twin):
    quantized, _, _, images = twin
    before = np.array(quantized.kernel_range["max_var"])
    quantized.kernel.assign(np.asarray(quantized.kernel) * 2)
    quantized(images, training=False)
    np.testing.assert_array_equal(quantized.kernel_range["max_var"], before)
    quantized.frozen = True
    quantized(images, training=True)
    np.testing.assert_array_equal(quantized.kernel_range["max_var"], before)
    quantized.frozen = False
    quantized(images, training=True)
    np.testing.assert_allclose(quantized.kernel_range["max_var"], 2 * before, rtol=1e-6)


def test_clipping_takes_the_share_that_errs_least(twin):
    quantized, layer, by_channel, _ = twin
    original = by_channel(layer.kernel)
    greatest = np.abs(original).max(0)
    quantized.clip_range((0.5, 0.9, 1.0))
    share = np.asarray(quantized.kernel_range["max_var"]) / greatest

    def error(share):
        step = greatest * share / 127
        return ((np.clip(np.round(original / step), -127, 127) * step - original) ** 2).sum(0)

    errors = np.array([error(share) for share in (0.5, 0.9, 1.0)])
    np.testing.assert_allclose(share, np.array([0.5, 0.9, 1.0])[errors.argmin(0)], rtol=1e-5)


def test_kernel_ranges_are_saved(twin, tmp_path):
    quantized, _, _, images = twin
    quantized.clip_range((0.5,))
    symbol = keras.Input(images.shape[1:])
    keras.Model(symbol, quantized(symbol)).save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(images), quantized(images))
    np.testing.assert_array_equal(
        again.layers[1].kernel_range["max_var"], quantized.kernel_range["max_var"]
    )
