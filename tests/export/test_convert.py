"""Files of `export_tflite`: same scores, builtin operators, static shapes, one partition."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite, verify_tflite
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocess_input

SMALLEST = ["MobileFormer26M", "MobileViTXXS", "IFormerT"]
BGR = Preprocessing(16, 1.0, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "BGR")


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_a_network_becomes_one_partition_with_the_same_scores(exported, noise, name):
    model, path = exported(name)
    found = inspect_tflite(path)
    assert not found.flex_ops and not found.custom_ops
    assert found.partitions == 1 and not found.undelegated
    assert not found.gpu_shape_offenders
    result = verify_tflite(path, model, noise(4, 96))
    assert result.relative_error <= 1e-4
    assert result.agreeing == result.total == 4


@pytest.mark.large
@pytest.mark.parametrize("name", ["MobileFormer294M", "MobileViTS", "IFormerM"])
def test_larger_networks_at_native_size(network, noise, tmp_path, name):
    size = 256 if name.startswith("MobileViT") else 224
    model = network(name, size=size)
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
    found = inspect_tflite(path)
    assert (found.partitions, found.gpu_shape_offenders) == (1, ())
    assert verify_tflite(path, model, noise(1, size)).relative_error <= 1e-4


@pytest.mark.large
def test_fusing_makes_fewer_operators_and_the_same_scores(classifier, noise, tmp_path):
    plain = keras_hybrid.export_tflite(classifier, tmp_path / "plain.tflite", fused=False)
    fused = keras_hybrid.export_tflite(classifier, tmp_path / "fused.tflite")
    assert inspect_tflite(fused).num_ops <= inspect_tflite(plain).num_ops
    images = noise(4)
    for path in (plain, fused):
        assert verify_tflite(path, classifier, images).relative_error <= 1e-5


@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_pixels_go_straight_in(classifier, tmp_path, input_type):
    path = keras_hybrid.export_tflite(
        classifier, tmp_path / "a.tflite", preprocessing=BGR, input=input_type
    )
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    pixels[0] = 255  # where black padding and padding with the mean differ most
    expected = classifier.predict(preprocess_input(pixels, BGR), verbose=0)
    (scores,) = run_tflite(path, pixels).values()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    ops = inspect_tflite(path).ops
    assert ops["REVERSE_V2"] == ops["DIV"] == ops["STRIDED_SLICE"] == 0, "order and scale cost ops"
    assert ops["MUL"] == 0 and ops["SUB"] + ops["ADD"] <= 1


def test_preprocessing_stands_alone_where_no_convolution_can_take_it(tmp_path):
    image = keras.Input((16, 16, 3))
    y = layers.GlobalAveragePooling2D()(layers.Activation("sigmoid")(image))
    model = keras.Model(image, y)
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite", preprocessing=BGR)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    (actual,) = run_tflite(path, pixels).values()
    expected = model.predict(preprocess_input(pixels, BGR), verbose=0)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_best_k_come_in_order(classifier, noise, tmp_path):
    path = keras_hybrid.export_tflite(classifier, tmp_path / "a.tflite", top_k=3)
    images = noise(4)
    expected = classifier.predict(images, verbose=0)
    outputs = run_tflite(path, images)
    np.testing.assert_array_equal(outputs["classes"], np.argsort(-expected)[:, :3])
    np.testing.assert_allclose(outputs["scores"], -np.sort(-expected)[:, :3], atol=1e-5)


@pytest.mark.large
def test_several_outputs_keep_their_names(network, noise, tmp_path):
    model = network("MobileFormer26M", size=64)
    backbone = keras.Model(model.input, keras_hybrid.feature_pyramid(model))
    path = keras_hybrid.export_tflite(backbone, tmp_path / "a.tflite")
    images = noise(1, 64)
    outputs = run_tflite(path, images)
    expected = backbone.predict(images, verbose=0)
    assert set(outputs) == {"P1", "P2", "P3", "P4", "P5"}
    for name, value in expected.items():
        error = np.abs(outputs[name] - value).max() / np.abs(value).max()
        assert error <= 1e-4, name


def test_a_model_of_any_size_is_fixed_to_one(noise, tmp_path):
    image = keras.Input((None, None, 3))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, y)
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite", input_size=(16, 24))
    (tensor,) = (t for t in inspect_tflite(path).activations if t.producer == "INPUT")
    assert tensor.shape == (1, 16, 24, 3)
    with pytest.raises(ValueError, match="input_size"):
        keras_hybrid.export_tflite(model, tmp_path / "b.tflite")


@pytest.mark.large
def test_a_failed_conversion_leaves_the_old_file_and_nothing_else(
    classifier, tmp_path, monkeypatch
):
    path = keras_hybrid.export_tflite(classifier, tmp_path / "a.tflite")
    old = path.read_bytes()
    from keras_hybrid.export import convert

    def fail(path):
        raise RuntimeError("does not run")

    monkeypatch.setattr(convert, "_check", fail)
    with pytest.raises(RuntimeError, match="does not run"):
        keras_hybrid.export_tflite(classifier, path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.tflite"]


@pytest.mark.large
def test_many_weights_are_no_part_of_the_graph_that_is_converted(tmp_path, monkeypatch):
    from keras_hybrid.export import convert, saved_model

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Dense(5000)(layers.Flatten()(image)))
    sizes, original = [], convert._convert

    def measure(folder, *arguments):
        sizes.append((Path(folder) / "saved_model.pb").stat().st_size)
        return original(folder, *arguments)

    monkeypatch.setattr(convert, "_convert", measure)
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
    monkeypatch.setattr(saved_model, "MANY_WEIGHTS", 100_000)
    other = keras_hybrid.export_tflite(model, tmp_path / "b.tflite")
    assert 10 * sizes[1] < other.stat().st_size, "the converter copies graphs several times"
    assert sizes[0] > path.stat().st_size
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    (scores,), (others) = run_tflite(path, images).values(), run_tflite(other, images).values()
    np.testing.assert_array_equal(scores, *others)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"precision": "int4"}, "precision='int4'"),
        ({"input": "int8"}, "input='int8'"),
        ({"path": "model.bin"}, "model.bin"),
        ({"input_size": 32}, "fixed to 16 x 16.*input_size=32"),
        ({"labels": ["a", "b"]}, "2 labels for 5 classes"),
        ({"top_k": 6}, "top_k=6"),
        ({"top_k": 0}, "top_k=0"),
        ({"preprocessing": True}, "none of this package's"),
    ],
)
def test_bad_arguments_are_named(classifier, tmp_path, options, message):
    options = {"path": "a.tflite", **options}
    path = tmp_path / options.pop("path")
    with pytest.raises(ValueError, match=message):
        keras_hybrid.export_tflite(classifier, path, **options)
    assert not list(tmp_path.iterdir())


def test_labels_need_class_scores(tmp_path):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, layers.Reshape((64, 12))(image))
    with pytest.raises(ValueError, match="classifier.*Received"):
        keras_hybrid.export_tflite(model, tmp_path / "a.tflite", labels=["a", "b"])


def test_other_backends_are_told_what_to_do(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow.*'jax'"):
        keras_hybrid.export_tflite(classifier, tmp_path / "a.tflite")
