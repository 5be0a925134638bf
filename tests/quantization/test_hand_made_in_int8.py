"""Models as people write them in int8: near the float model, or one error that names the layers."""

import keras
import numpy as np
import pytest
from hand_made_models import MODELS, images_for
from harness import predict, randomise

import keras_hybrid
from keras_hybrid import keras_private

NO_TWIN = "no quantised twin"
# Through a file as well: what is read in another way than layer by layer.
THROUGH_A_FILE = ("shared_dense", "transfer_learning", "sequential", "bytes_rescaled", "shared_sum")


def decibels(exact, other):
    noise = np.mean((exact - other) ** 2)
    return 10 * np.log10(np.mean(exact**2) / max(noise, 1e-20))


def quantized(name):
    """The model, the same quantised and calibrated, and images."""
    keras.utils.set_random_seed(0)
    model = randomise(MODELS[name]())
    result = keras_hybrid.quantize(model)
    images = images_for(model, 16)
    if len(images) == 1:
        keras_hybrid.calibrate(result, images[0].astype("float32"), stream=None)
    return model, result, images


@pytest.mark.large
@pytest.mark.parametrize("name", MODELS)
def test_int8_is_near_float_or_says_what_it_has_not(name):
    try:
        model, result, images = quantized(name)
    except ValueError as error:
        assert NO_TWIN in str(error)
        return
    assert result.output_names == keras_private.functional(model).output_names
    if len(images) > 1:
        return
    for exact, actual in zip(predict(model, images), predict(result, images), strict=True):
        assert decibels(exact.astype("float32"), actual) > 15


@pytest.mark.large
@pytest.mark.parametrize("name", THROUGH_A_FILE)
def test_the_file_computes_what_keras_computes(name, tmp_path, require):
    require(module="ai_edge_litert")
    from keras_hybrid.export.verify import run_tflite

    model, result, images = quantized(name)
    path = keras_hybrid.export_tflite(result, tmp_path / "a.tflite", precision="int8")
    files = run_tflite(path, images[0].astype("float32"))
    names = keras_private.functional(model).output_names
    assert sorted(files) == sorted(names)
    for output, wanted in zip(names, predict(result, images), strict=True):
        assert decibels(wanted, files[output]) > 30
