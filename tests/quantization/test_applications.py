"""Networks of `keras.applications`, scaling of images inside, in int8 without a float tensor."""

import keras
import numpy as np
import pytest
from harness import decibels, randomise

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.quantization.report import layer_errors
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.surgery.affine import AFFINE

SIZE = 64
# Least signal to noise in decibels against float, and of the file against Keras. Random weights do
# not damp the noise: it grows with every one of EfficientNet's layers.
FLOORS = {
    "MobileNet": (30, 35),
    "MobileNetV2": (38, 38),
    "MobileNetV3Small": (36, 36),
    "EfficientNetB0": (25, 25),
}


@pytest.mark.large
@pytest.mark.parametrize("name", FLOORS)
def test_network(name, tmp_path):
    options = {"MobileNetV2": {"alpha": 0.35}, "MobileNet": {"alpha": 0.25}}.get(name, {})
    model = getattr(keras.applications, name)(
        input_shape=(SIZE, SIZE, 3),
        weights=None,
        classes=10,
        classifier_activation=None,
        **options,
    )
    randomise(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.set_weights(
                [np.array([0.4, 0.5, 0.6]), np.array([0.05, 0.06, 0.07]), np.array(1)]
            )
            layer.finalize_state()
    images = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3)).astype("float32")
    if name in ("MobileNet", "MobileNetV2"):  # they leave scaling to the caller
        images = images / 127.5 - 1
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "m.tflite", precision="int8")
    assert inspect_tflite(path).integer_offenders == ()
    rounded = np.asarray(quantized(images))
    (shipped,) = run_tflite(path, images).values()
    least, least_of_file = FLOORS[name]
    assert decibels(model(images), rounded) >= least
    assert decibels(rounded, shipped) >= least_of_file
    assert min(error.own for error in layer_errors(quantized, images[:2])) >= 25


@pytest.mark.large
@pytest.mark.parametrize("name", ["Xception", "DenseNet121", "ConvNeXtTiny", "InceptionResNetV2"])
def test_networks_of_other_kinds_are_quantized(name):
    """Separable convolutions; joined maps; layers that are private to Keras."""
    size = 96 if name.startswith("Inception") else 71 if name == "Xception" else 32
    model = getattr(keras.applications, name)(
        input_shape=(size, size, 3), weights=None, include_top=False, pooling="avg"
    )
    quantized = keras_hybrid.quantize(model)
    kernels = [layer for layer in quantized.layers if isinstance(layer, QuantizedKernel)]
    plain = [layer for layer in quantized.layers if type(layer) in AFFINE]
    assert len(kernels) > 40 and not plain
