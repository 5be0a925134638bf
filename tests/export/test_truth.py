"""Files tell the truth: what they take, what they are called, and which runtime they need."""

import json
import os
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.flatbuffer.runtime_versions import RUNTIMES, state_runtime_version
from keras_hybrid.export.image_input import left_to_do, own_scaling
from keras_hybrid.export.metadata import Normalization, label_names, read_metadata
from keras_hybrid.export.signature import input_shapes, output_names
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.weights.family import Preprocessing

HALF = Preprocessing(16, 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PIXELS = Normalization((0.0,), (1.0,))


def head(x, classes=4):
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(x))
    return layers.Dense(classes, name="predictions")(x)


def network(before=lambda x: x, size=16):
    image = keras.Input((size, size, 3))
    return keras.Model(image, head(before(image)))


def runtime_of(path):
    return TFLiteFile.read(path).entry("min_runtime_version").split(b"\0")[0].decode()


def numbers(version):
    return tuple(int(x) for x in version.split("."))


def nested(x):
    return keras.Sequential([layers.Rescaling(1 / 255.0, name="inner"), layers.Conv2D(3, 1)])(x)


def normalized(x):
    return layers.Normalization(mean=[120.0] * 3, variance=[3000.0] * 3, name="norm")(x)


@pytest.mark.parametrize(
    "before, found",
    [
        (lambda x: x, False),
        (layers.Rescaling(1 / 127.5, offset=-1.0), True),
        (layers.Rescaling(2.0), False),
        (normalized, True),
        (lambda x: x / 255.0, True),
        (lambda x: layers.Rescaling(1 / 255.0)(layers.RandomFlip()(x)), True),
        (nested, True),
        (lambda x: keras_hybrid.preprocess_input(x, "iformer"), True),
        (lambda x: layers.Rescaling(1 / 255.0)(layers.Conv2D(3, 1)(x)), False),
    ],
)
def test_a_network_that_scales_pixels_itself_is_known(before, found):
    model = network(before)
    assert (own_scaling(model) is not None) == found
    assert left_to_do(model, None) == (PIXELS if found else None)


@pytest.mark.large
def test_a_file_says_what_is_left_to_do_and_refuses_to_have_it_done_twice(tmp_path):
    model = network(layers.Rescaling(1 / 255.0, name="scale"))
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
    assert read_metadata(path).normalization == PIXELS
    with pytest.raises(ValueError, match="'scale'.*scaled twice.*Received"):
        keras_hybrid.export_tflite(model, tmp_path / "b.tflite", preprocessing=HALF)
    unknown = keras_hybrid.export_tflite(network(), tmp_path / "c.tflite")
    assert read_metadata(unknown).normalization is None, "nothing is known: nothing is invented"


@pytest.mark.large
def test_mediapipe_is_told_of_and_never_given_a_normalization_by_channel(tmp_path):
    model = keras_hybrid.IFormerT(weights=None, input_shape=(64, 64, 3), classes=4)
    with pytest.warns(UserWarning, match="MediaPipe.*preprocessing=True"):
        path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
    metadata = read_metadata(path)
    assert metadata.normalization is None
    assert metadata.record["normalization"]["std"] == pytest.approx([58.395, 57.12, 57.375])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        inside = keras_hybrid.export_tflite(
            model, os.fsencode(tmp_path / "b.tflite"), "float16", True
        )
    assert read_metadata(inside).normalization == PIXELS


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["cat", "dog"]),
        ("cat", "dog"),
        [b"cat", np.str_("dog")],
        ["\ufeffcat", "dog\r"],
        {0: "cat", 1: "dog"},
        {"dog": 1, "cat": 0},
        "labels.txt",
        b"labels.txt",
        "of_notepad.txt",
    ],
)
def test_labels_are_taken_as_users_keep_them(labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_bytes("\ufeffcat\r\ndog\r\n".encode())
    (tmp_path / "of_notepad.txt").write_text("cat\r\ndog\r\n\r\n", encoding="utf-16")
    (tmp_path / "latin.txt").write_bytes("Käse\n".encode("latin-1"))
    assert label_names(labels) == ["cat", "dog"]
    assert label_names(np.arange(3)) == label_names(list(np.arange(3))) == ["0", "1", "2"]
    for wrong in (3, [None], "missing.txt", "latin.txt", {"cat", "dog"}, {0: "cat", 2: "dog"}):
        with pytest.raises(ValueError, match="labels"):
            label_names(wrong)


def test_labels_of_any_letters_are_read_back(tmp_path):
    labels = ["Käse", "a\u2028b", "", "page\x0cbreak"]
    path = keras_hybrid.export_tflite(network(), tmp_path / "a.tflite", labels=labels)
    assert read_metadata(path).labels == tuple(labels)


@pytest.mark.large
def test_outputs_have_the_models_names_in_every_precision(tmp_path):
    image = keras.Input((16, 16, 3))
    features = layers.BatchNormalization(name="features")(layers.Conv2D(4, 3, name="conv")(image))
    scores = layers.Dense(4, activation="softmax", name="predictions")(
        layers.GlobalAveragePooling2D()(features)
    )
    model = keras.Model(image, [features, scores])
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    for precision in ("float32", "int8", "int8_cpu"):
        path = keras_hybrid.export_tflite(
            model,
            tmp_path / f"{precision}.tflite",
            precision,
            representative_data=None if precision == "float32" else images,
        )
        outputs = run_tflite(path, images[:1])
        assert set(outputs) == {"features", "predictions"}, precision
        assert outputs["predictions"].shape == (1, 4)
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    assert output_names(quantized)[1] == "predictions"


@pytest.mark.parametrize("fused", [True, False])
def test_a_sequential_model_is_exported_fused_or_not(tmp_path, fused):
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(name="mean")]
    )
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite", fused=fused)
    (name, found), *_ = run_tflite(path, images).items()
    assert name == "mean"
    np.testing.assert_allclose(found, model(images), atol=1e-5)


def test_several_inputs_and_a_dictionary_of_outputs_keep_their_names(tmp_path):
    left, right = keras.Input((16, 16, 3), name="left"), keras.Input((4,), name="a.b")
    y = layers.Concatenate()([head(left), right])
    outputs = {"z": layers.Dense(3)(y), "a": layers.Dense(2)(y)}
    model = keras.Model({"one": left, "two": right}, outputs)
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite")
    random = np.random.default_rng(0)
    images, others = random.normal(size=(2, 16, 16, 3)), random.normal(size=(2, 4))
    found = run_tflite(path, {"left": images, "a_b": others})
    wanted = model.predict({"one": images, "two": others}, verbose=0)
    assert set(found) == {"a", "z"}
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
    with pytest.raises(ValueError, match="dictionary"):
        run_tflite(path, images)
    with pytest.raises(ValueError, match="one image input"):
        keras_hybrid.export_tflite(model, tmp_path / "b.tflite", preprocessing=HALF)
    assert input_shapes(model) == {"left": (1, 16, 16, 3), "a_b": (1, 4)}


def test_repeated_outputs_have_names_of_their_own():
    image = keras.Input((16, 16, 3))
    y = head(image)
    assert output_names(keras.Model(image, [y, y])) == ["predictions", "predictions_1"]


@pytest.mark.large
def test_the_runtime_that_a_file_needs_is_that_of_its_newest_operator(tmp_path):
    model = network()
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int8", representative_data=images
    )
    versions = TFLiteFile.read(path).operator_versions()
    assert versions["FULLY_CONNECTED"] == 12, "a scale for each unit"
    assert runtime_of(path) == "2.17.0"
    plain = keras_hybrid.export_tflite(model, tmp_path / "b.tflite")
    assert numbers(runtime_of(plain)) < (2, 17)


def test_the_converters_word_counts_where_it_asks_for_more(tmp_path):
    file = TFLiteFile.read(keras_hybrid.export_tflite(network(), tmp_path / "a.tflite"))
    file.set_entry("min_runtime_version", b"9.9.9".ljust(16, b"\0"))
    assert state_runtime_version(file) == "9.9.9"
    assert file.entry("min_runtime_version") == b"9.9.9".ljust(16, b"\0")


def test_later_versions_of_an_operator_never_need_an_earlier_runtime():
    for name, runtimes in RUNTIMES.items():
        found = [numbers(x) for x in runtimes]
        assert found == sorted(found), name


def test_what_int16x8_cannot_do_is_refused(tmp_path):
    images = np.zeros((2, 16, 16, 3), "float32")
    for options in ({"input": "uint8"}, {"top_k": 2}, {"output": "int8"}):
        with pytest.raises(ValueError, match="int16x8"):
            keras_hybrid.export_tflite(
                network(), tmp_path / "a.tflite", "int16x8", representative_data=images, **options
            )


def test_what_is_attached_to_a_file_survives_an_edit(tmp_path):
    path = keras_hybrid.export_tflite(network(), tmp_path / "a.tflite", labels=list("abcd"))
    file = TFLiteFile.read(path)
    file.set_entry("note", b"kept")
    file.write(path)
    assert read_metadata(path).labels == tuple("abcd")
    assert TFLiteFile.read(path).entry("note") == b"kept"
    assert json.loads(TFLiteFile.read(path).entry("keras_hybrid"))["precision"] == "float32"


def test_a_folder_of_images_is_sampled_across_its_folders_and_broken_files_are_named(tmp_path):
    from PIL import Image

    from keras_hybrid.export.images import load_images

    for shade, name in enumerate(("ape", "bee", "cat")):
        (tmp_path / name).mkdir()
        for number in range(5):
            pixels = np.full((20, 30, 3), 80 * shade, "uint8")
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    images = load_images(tmp_path, (16, 16, 3), limit=6)
    assert images.shape == (6, 16, 16, 3)
    assert sorted(images[:, 0, 0, 0]) == [0, 0, 80, 80, 160, 160]
    for file in (tmp_path / "bee").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    with pytest.warns(UserWarning, match="bee"):
        assert len(load_images(tmp_path, (16, 16, 3))) == 10
    with pytest.raises(ValueError, match="5 image files"), pytest.warns(UserWarning):
        load_images(tmp_path / "bee", (16, 16, 3))


def test_images_of_files_are_those_of_evaluation(tmp_path):
    from PIL import Image

    from keras_hybrid.export.images import load_images
    from keras_hybrid.weights.preprocessing import preprocessing_of

    fine = np.random.default_rng(0).integers(0, 256, (48, 96, 3)).astype("uint8")
    fine[:, :16] = 255  # the edge, that evaluation cuts off
    Image.fromarray(fine).save(tmp_path / "a.png")
    known = preprocessing_of("mobilevit")
    (image,) = load_images(tmp_path, (24, 24, 3), preprocessing=known)
    wanted = keras_hybrid.evaluation_image(fine, "mobilevit", 24)
    np.testing.assert_array_equal(image, wanted)
    for shape, edge_is_seen in (((24, 24, 3), False), ((24, 24, 1), False), ((12, 24, 3), True)):
        (image,) = load_images(tmp_path, shape)
        assert image.shape == shape
        assert (image[:, 1].mean() > 250) == edge_is_seen
