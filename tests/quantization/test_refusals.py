"""What cannot be quantised, calibrated or loaded is refused, and says what was expected."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.report import warn_outside_ranges


def network(image):
    x = L.Conv2D(8, 3, strides=2, activation="relu", name="stem")(image)
    return L.Dense(5, name="classes")(L.GlobalAveragePooling2D()(x))


@pytest.fixture
def model(small_network):
    return small_network(network)


@pytest.fixture
def quantized(model):
    return keras_hybrid.quantize(model)


# The same in a process of another backend: quantise, load, convert.
PROGRAM = """
import sys
import keras
import keras_hybrid
image = keras.Input((16, 16, 3))
model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
for attempt in (
    lambda: keras_hybrid.quantize(model),
    lambda: keras.models.load_model(sys.argv[1]),
    lambda: keras_hybrid.export_tflite(model, "x.tflite", precision="int8"),
):
    try:
        attempt()
    except ValueError as error:
        print(error)
"""


@pytest.mark.large
def test_another_backend_is_refused(quantized, tmp_path, require):
    require(module="jax")
    quantized.save(tmp_path / "q.keras")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "q.keras"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    messages = done.stdout.strip().splitlines()
    assert [message.split(" need")[0] for message in messages] == [
        "Quantisation",
        "Quantised layers",
        "Conversion",
    ], done.stderr[-2000:]
    for message in messages:
        assert "KERAS_BACKEND=tensorflow" in message and "Received: backend 'jax'" in message


def test_so_is_pytorch(model, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow.*Received: backend 'torch'"):
        keras_hybrid.quantize(model)


def test_a_subclassed_model_has_no_graph(quantized):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="subclassed one has no graph.*Received: model="):
        keras_hybrid.quantize(Subclassed())


def test_a_sequential_model_is_functional_once_it_is_built():
    layers = [keras.Input((16, 16, 3)), L.Conv2D(4, 3, name="only")]
    model = keras_hybrid.quantize(keras.Sequential(layers))
    assert [type(layer).__name__ for layer in model.layers if layer.name == "only"] == [
        "QuantizedConv2D"
    ]
    with pytest.raises(ValueError, match="functional model"):
        keras_hybrid.quantize(keras.Sequential([L.Conv2D(4, 3)]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "Received: images=None"),
        ([], "representative images. Received: none"),
        (np.zeros((0, 16, 16, 3)), "representative images. Received: none"),
        (iter(()), "representative images. Received: none"),
        (np.zeros((2, 16, 18, 3)), r"\(None, 16, 16, 3\). Received: .*\(2, 16, 18, 3\)"),
        (np.zeros((16, 16, 3)), "Received: a batch of shape"),
        (np.full((2, 16, 16, 3), np.inf), "must be finite. Received: NaN or infinity"),
    ],
)
def test_images_that_calibrate_nothing(quantized, images, message):
    with pytest.raises(ValueError, match=message):
        keras_hybrid.calibrate(quantized, images, stream=None)


def test_nan_in_a_later_batch_says_after_how_many_images(quantized, make_images):
    images = make_images(20)
    images[17, 3, 3, 1] = np.nan
    with pytest.raises(ValueError, match="after 16 images"):
        keras_hybrid.calibrate(quantized, images, batch_size=8, stream=None)


def test_nan_inside_names_the_layer(model, make_images):
    kernel = model.get_layer("stem").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    quantized = keras_hybrid.quantize(model)
    with pytest.raises(ValueError, match=r"not finite. Received: \d+ of \d+ at '.*stem_rounded'"):
        keras_hybrid.calibrate(quantized, make_images(4), stream=None)


def test_a_refused_calibration_changes_nothing(quantized, make_images):
    keras_hybrid.calibrate(quantized, make_images(8), stream=None)
    before = quantized.get_weights()
    images = make_images(8, seed=1) * 3
    images[5] = np.nan
    with pytest.raises(ValueError, match="finite"):
        keras_hybrid.calibrate(quantized, images, batch_size=4, stream=None)
    for weight, kept in zip(quantized.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert all(layer.observer is None for layer in fake_quantizers(quantized))


@pytest.mark.parametrize(
    "options",
    [{"method": "best"}, {"weights": "best"}, {"percentile": 40}, {"percentile": 100.1}],
)
def test_settings_that_calibration_does_not_have(quantized, make_images, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}={value!r}"):
        keras_hybrid.calibrate(quantized, make_images(4), stream=None, **options)


@pytest.mark.parametrize("names", ["clases", ("stem", "clases"), ("stem", "")])
def test_a_name_to_keep_float_that_no_layer_has(model, names):
    with pytest.raises(ValueError, match="`keep_float` must name layers of the model"):
        keras_hybrid.quantize(model, keep_float=names)


def test_images_outside_of_the_range_are_counted(quantized, make_images):
    images = make_images(8)
    with pytest.raises(ValueError, match="not calibrated"):
        warn_outside_ranges(quantized, images)
    keras_hybrid.calibrate(quantized, images, stream=None)
    images[0, 0, 0] = (100.0, -50.0, 0.0)
    expected = rf"{2 / images.size:.2%} of .*from -50 to 100, .*{images[1:].max():.4g}"
    with pytest.warns(UserWarning, match=expected):
        assert warn_outside_ranges(quantized, images) == pytest.approx(2 / images.size)
