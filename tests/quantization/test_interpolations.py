"""Maps that are resized in int8: rounded where the file rounds them, and whole in the delegate."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.layers import ResizeToReference


def resized_and_added(resize):
    """Two maps of one image, the coarser resized to the finer one, and added."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 24, 8), name="image")
    coarse = layers.Conv2D(8, 1, strides=2, name="coarse")(image)
    fine = layers.Conv2D(8, 1, name="fine")(image)
    resized = resize([coarse, fine]) if isinstance(resize, ResizeToReference) else resize(coarse)
    x = layers.Add(name="sum")([resized, fine])
    return keras.Model(image, layers.Conv2D(4, 1, name="logits")(x))


@pytest.mark.large
@pytest.mark.parametrize(
    "resize",
    [
        layers.UpSampling2D(2, "channels_last", "bilinear", name="up"),
        ResizeToReference("bilinear", name="up"),
        ResizeToReference("nearest", name="up"),
    ],
    ids=["doubled", "to a reference", "nearest"],
)
def test_the_file_rounds_where_keras_does(resize, tmp_path, require):
    require(module="ai_edge_litert")
    model = resized_and_added(resize)
    images = np.random.default_rng(0).normal(size=(16, 16, 24, 8)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    wanted = quantized.predict(images, verbose=0)
    step = (wanted.max() - wanted.min()) / 255
    assert np.mean(np.abs(found - wanted) > 0.5 * step) < 0.01  # ties of roundings are left
    inspected = inspect_tflite(path)
    assert not inspected.float_tensors and not inspected.undelegated


MOVED = {
    "max pooling": layers.MaxPooling2D(),
    "padding": layers.ZeroPadding2D(),
    "cropping": layers.Cropping2D(),
    "nearest": layers.UpSampling2D(),
    "slice": lambda x: x[..., :4],
    "maximum": lambda x: layers.Maximum()([x, layers.Conv2D(8, 1)(x)]),
    "Inception's grid reduction": lambda x: layers.Concatenate()(
        [layers.MaxPooling2D()(x), layers.Conv2D(4, 1, strides=2)(x)]
    ),
}


@pytest.mark.parametrize("moved", MOVED)
@pytest.mark.parametrize("between", ["average", "bilinear"])
def test_what_else_reads_the_map_is_in_integers_too(moved, between, tmp_path, require):
    """Both sides of the averaging are rounded, wherever its input was moved on the way."""
    require(module="ai_edge_litert")
    averages = {
        "average": layers.AveragePooling2D(3, 1, "same"),
        "bilinear": layers.UpSampling2D(2, "channels_last", "bilinear"),
    }
    ties = {"average": 1e-4, "bilinear": 1e-4}[between]
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = MOVED[moved](layers.Conv2D(8, 3, activation="relu")(image))
    heads = [
        layers.Conv2D(4, 1, name="a")(averages[between](x)),
        layers.Conv2D(4, 1, name="b")(x),
    ]
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)) / 127.5 - 1
    model = keras_hybrid.quantize(keras.Model(image, heads))
    quantized = keras_hybrid.calibrate(model, images.astype("float32"), stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    found = run_tflite(path, images.astype("float32")).values()
    for one, other in zip(quantized.predict(images, verbose=0), found, strict=True):
        step = np.ptp(one) / 255
        assert np.mean(np.abs(one - other) > 0.5 * step) < ties
    assert not inspect_tflite(path).float_tensors
