"""Files of quantised models that take pixels of 0 to 255."""

import numpy as np
import pytest
from harness import decibels
from keras import layers as L

import keras_hybrid
from keras_hybrid.quantization.passes.pixels import edit_quantized_preprocessing
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.passes.image_preprocessing import edit_preprocessing
from keras_hybrid.surgery.pipelines import FOR_FLOAT, edited
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocess_input

PHOTOS = Preprocessing(16, 0.9, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "BGR")
SCALED = Preprocessing(16, 0.9, "bilinear", (0, 0, 0), (1, 1, 1))


@pytest.fixture
def model(small_network):
    def function(image):
        x = L.ZeroPadding2D(1)(image)
        x = L.Conv2D(8, 3, strides=2, name="stem")(x)
        x = L.Conv2D(8, 1, activation="relu")(L.BatchNormalization()(x))
        return L.Dense(5)(L.GlobalAveragePooling2D()(x))

    return small_network(function)


@pytest.fixture
def photos():
    return np.random.default_rng(1).integers(0, 256, (16, 16, 16, 3)).astype("float32")


@pytest.mark.large
@pytest.mark.parametrize("known", [PHOTOS, SCALED])
@pytest.mark.parametrize("precision", ["int8", "int8_cpu", "int16x8"])
def test_pixels_straight_in(model, photos, tmp_path, require, known, precision):
    """In int8, the camera's frame is on the first convolution's grid, or a subtraction away."""
    require(module="ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.verify import run_tflite

    photos[0] = 255  # where black padding and padding with the mean differ most
    images = preprocess_input(photos, known)
    path = keras_hybrid.export_tflite(
        model, tmp_path / "x.tflite", precision, known, representative_data=images
    )
    (scores,) = run_tflite(path, photos).values()
    assert decibels(model(images), scores) >= 25
    if precision == "int8":
        path = keras_hybrid.export_tflite(
            keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None),
            path,
            precision,
            known,
            input="uint8",
            output="int8",
        )
        found = inspect_tflite(path)
        assert found.integer_offenders == ()
        (detail,) = Interpreter(model_path=str(path)).get_input_details()
        assert detail["dtype"] == np.uint8 and detail["quantization"] == (1.0, 0)
        assert found.ops["SUB"] + found.ops["ADD"] <= 1 + any(known.mean)
        assert found.ops["QUANTIZE"] <= 1, "uint8 to int8"


@pytest.mark.large
@pytest.mark.parametrize("edit", [edit_preprocessing, edit_quantized_preprocessing])
def test_networks_of_the_three_families_take_pixels(edit):
    """Mobile-Former's tokens ask the image for the batch size, which is no obstacle."""
    shape = (64, 64, 3)
    for name in ("MobileFormer26M", "MobileViTXXS", "IFormerT"):
        model = keras_hybrid.build_model(name, weights=None, input_shape=shape)
        if edit is edit_preprocessing:
            editable = edited(model, FOR_FLOAT)
        else:
            editable = EditableModel(keras_hybrid.quantize(model))
        assert edit(editable, PHOTOS.mean, PHOTOS.std, "RGB"), name


@pytest.mark.parametrize("batch_norm", ["folded", "frozen"])
def test_what_whole_pixels_leave_of_the_mean_is_in_the_bias(
    small_network, make_images, photos, batch_norm
):
    known = Preprocessing(16, 0.9, "bilinear", (0.485, 0.456, 0.406), (0.23, 0.22, 0.225))
    network = small_network(
        lambda image: L.BatchNormalization()(L.Conv2D(4, 3, use_bias=False)(image))
    )
    quantized = keras_hybrid.quantize(network, batch_norm=batch_norm)
    keras_hybrid.calibrate(quantized, make_images(), stream=None)
    editable = EditableModel(quantized)
    assert edit_quantized_preprocessing(editable, known.mean, known.std, "RGB")
    result = editable.to_model()
    for layer in (*quantized.layers, *result.layers):
        if isinstance(layer, FakeQuantize | QuantizedKernel):
            layer.exact = True
    expected = quantized(np.asarray(preprocess_input(photos, known)))
    np.testing.assert_allclose(result(photos), expected, atol=2e-4)


def test_a_clipped_kernel_stays_clipped_as_pixels_come_in(small_network, make_images):
    """Each output channel's range grows as its values do."""
    network = small_network(lambda image: L.Conv2D(4, 3, padding="same", name="first")(image))
    quantized = keras_hybrid.quantize(network)
    keras_hybrid.calibrate(quantized, make_images(), weights="mse", stream=None)
    editable = EditableModel(quantized)
    assert edit_quantized_preprocessing(editable, PHOTOS.mean, (0.5,) * 3, "BGR")
    before, after = quantized.get_layer("first"), editable.to_model().get_layer("first")
    np.testing.assert_allclose(after.kernel, before.kernel[:, :, ::-1] / 127.5, rtol=1e-6)
    for name in ("min_var", "max_var"):
        expected = np.asarray(before.kernel_range[name]) / 127.5
        np.testing.assert_allclose(after.kernel_range[name], expected, rtol=1e-6)
