"""Files of detectors: raw outputs, offsets and logits apart, in float and in int8."""

import keras
import numpy as np
import pytest
from harness import randomise

import keras_hybrid
from keras_hybrid.export.verify import run_tflite

SIZE = 64
CLASSES = 3


def small_backbone():
    x = image = keras.Input((SIZE, SIZE, 3), name="image")
    for index in range(5):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(8, 3, strides=2, name=f"down{index}")(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(image, x, name="small")


@pytest.fixture(scope="module", params=["ssdlite", "retinanet"])
def detector(request):
    head = getattr(keras_hybrid, request.param)
    options = {"channels": 8, "head_convolutions": 1} if request.param == "retinanet" else {}
    return randomise(head(small_backbone(), CLASSES, **options))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(3, SIZE, SIZE, 3)).astype("float32")


def test_raw_files_give_offsets_and_logits(detector, images, tmp_path):
    path = keras_hybrid.export_tflite(detector, tmp_path / "raw.tflite")
    found = run_tflite(path, images)
    outputs = detector(images, training=False)
    for key in ("boxes", "classes"):
        np.testing.assert_allclose(found[key], outputs[key], atol=1e-4)


def test_int8_gives_offsets_and_logits_a_range_each(detector, images, tmp_path):
    quantized = keras_hybrid.quantize(detector)
    keras_hybrid.calibrate(quantized, images)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "int8.tflite", precision="int8")
    found, exact = run_tflite(path, images), detector(images, training=False)
    for key in ("boxes", "classes"):
        values = np.asarray(exact[key])
        steps = np.unique(np.round(np.diff(np.unique(found[key])), 6))
        assert steps[steps > 0].min() < 2.5 * (values.max() - values.min()) / 255, key
        error = np.abs(found[key] - values).mean() / values.std()
        assert error < 0.1, (key, error)
