"""int16x8: kernels are rounded for what images give them, and the file has them so."""

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.int16 import image_rounding
from keras_hybrid.export.int16.image_rounding import edit_rounding_for
from keras_hybrid.surgery.editable_model import EditableModel

KINDS = {
    "conv": lambda: L.Conv2D(16, 3, padding="same"),
    "strided": lambda: L.Conv2D(16, (3, 2), strides=2, padding="same"),
    "valid": lambda: L.Conv2D(16, 5, padding="valid", use_bias=False),
    "dilated": lambda: L.Conv2D(16, 3, dilation_rate=2, padding="same"),
    "pointwise": lambda: L.Conv2D(16, 1, strides=2),
    "depthwise": lambda: L.DepthwiseConv2D(3, padding="same"),
    "multiplied": lambda: L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
    "dense": lambda: L.Dense(16),
    "flat": lambda: keras.Sequential([L.Flatten(), L.Dense(4)]),
}


def photos(count, seed):
    """Smooth images, as photographs are: (count, 12, 12, 3)."""
    coarse = np.random.default_rng(seed).uniform(0, 1, (count, 4, 4, 3)).astype("float32")
    return np.asarray(keras.ops.image.resize(coarse, (12, 12), interpolation="bicubic"))


def network(kind):
    """A kernel after one that is on its grid already."""
    keras.utils.set_random_seed(1)
    image = keras.Input((12, 12, 3))
    first = L.Conv2D(8, 1, activation="relu")
    model = keras.Model(image, kind()(first(image)))
    first.kernel.assign(to_the_nearest(first.kernel.numpy(), (0, 1, 2)))
    return model


def to_the_nearest(kernel, axes):
    step = np.abs(kernel).max(axes, keepdims=True) / 127
    return np.rint(kernel / step) * step


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_kernel_is_rounded_for_its_inputs(kind):
    model = network(KINDS[kind])
    edited = EditableModel(model)
    edit_rounding_for([x[None] for x in photos(64, 0)])(edited)
    result, unseen = edited.to_model(), photos(32, 1)
    by_images = np.square(result(unseen) - model(unseen)).mean()
    weights = model.get_weights()
    for number, kernel in enumerate(weights):
        if kernel.ndim > 1:
            axes = (0, 1) if "depthwise" in model.weights[number].path else range(kernel.ndim - 1)
            weights[number] = to_the_nearest(kernel, tuple(axes))
    nearest = keras.models.clone_model(model)
    nearest.set_weights(weights)
    assert by_images < 0.8 * np.square(nearest(unseen) - model(unseen)).mean()


def test_the_file_has_the_kernels_as_they_were_rounded(tmp_path):
    model = network(KINDS["conv"])
    images = photos(16, 0)
    edited = EditableModel(model)
    edit_rounding_for([x[None] for x in images])(edited)
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int16x8", representative_data=images
    )
    file = TFLiteFile.read(path)
    graph = file.model.subgraphs[0]
    kernels = [x.inputs[1] for x in graph.operators if file.operator_name(x) == "CONV_2D"]
    steps = [step for step in edited.steps if step.is_a(L.Conv2D)]
    for number, step in zip(kernels, steps, strict=True):
        tensor = graph.tensors[number]
        values = np.frombuffer(bytes(file.model.buffers[tensor.buffer].data), "int8")
        values = values.reshape(tensor.shape) * tensor.quantization.scale[:, None, None, None]
        np.testing.assert_allclose(values.transpose(1, 2, 3, 0), step.weights["kernel"], atol=1e-6)


def test_images_pass_once_more_where_products_are_too_many(monkeypatch):
    model, images = network(KINDS["conv"]), [x[None] for x in photos(8, 0)]
    results = []
    for most in (image_rounding.MOST_NUMBERS, 10):
        monkeypatch.setattr(image_rounding, "MOST_NUMBERS", most)
        edited = EditableModel(model)
        edit_rounding_for(images)(edited)
        results.append(edited.to_model().get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_kernel_of_several_calls_stays_one():
    """It is rounded for what all its calls see."""
    keras.utils.set_random_seed(2)
    image, shared = keras.Input((12, 12, 3)), L.Conv2D(3, 3, padding="same")
    model = keras.Model(image, L.ReLU()(shared(L.ReLU()(shared(image)))))
    edited = EditableModel(model)
    edit_rounding_for([x[None] for x in photos(16, 0)])(edited)
    result = edited.to_model()
    assert len(result.get_weights()) == len(model.get_weights())
    nearest = keras.models.clone_model(model)
    kernel, bias = model.get_weights()
    nearest.set_weights([to_the_nearest(kernel, (0, 1, 2)), bias])
    errors = [np.square(x(photos(16, 1)) - model(photos(16, 1))).mean() for x in (result, nearest)]
    assert errors[0] < 0.5 * errors[1]


def test_what_takes_no_numbers_stays():
    image = keras.Input((12, 12, 3))
    x = keras.ops.log(L.ReLU()(image) * 0.0)
    model = keras.Model(image, L.Dense(4)(x))
    edited = EditableModel(model)
    edit_rounding_for([x[None] for x in photos(4, 0)])(edited)
    for one, other in zip(edited.to_model().get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
