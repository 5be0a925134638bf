"""Small networks, one operator at a time, and what int8 makes of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from harness import decibels, randomise


@pytest.fixture(autouse=True)
def quantisers(require):
    """Every test here needs TFMOT's."""
    require(module="tensorflow_model_optimization")


@pytest.fixture(scope="session")
def make_images():
    """Images (n, size, size, 3) of unit noise."""

    def make(count=32, size=16, seed=0):
        random = np.random.default_rng(seed)
        return random.normal(size=(count, size, size, 3)).astype("float32")

    return make


@pytest.fixture(scope="session")
def small_network():
    """Functional model of a function of an image tensor, with no weight at a special value."""
    import keras

    def build(function, size=16):
        keras.utils.set_random_seed(0)
        image = keras.Input((size, size, 3), name="image")
        return randomise(keras.Model(image, function(image), name="small"))

    return build


@pytest.fixture
def through_int8(tmp_path, make_images, require):
    """A float model through quantize, calibrate and conversion, with all that can be compared."""

    def run(model, profile="int8", images=None, **options):
        require(module="ai_edge_litert")
        import keras_hybrid
        from keras_hybrid.export.inspect import inspect_tflite
        from keras_hybrid.export.verify import run_tflite

        images = make_images(size=model.input_shape[1]) if images is None else images
        quantized = keras_hybrid.quantize(model, profile, **options)
        keras_hybrid.calibrate(quantized, images, stream=None)
        path = keras_hybrid.export_tflite(quantized, tmp_path / "m.tflite", precision=profile)
        exact = np.asarray(model(images))
        rounded = np.asarray(quantized(images))
        (shipped,) = run_tflite(path, images).values()
        return SimpleNamespace(
            model=quantized,
            path=path,
            inspection=inspect_tflite(path),
            from_float=decibels(exact, rounded),
            from_keras=decibels(rounded, shipped),
        )

    return run
