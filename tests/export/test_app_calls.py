"""What docs/phone.md tells an app to do, through the Python API of the same runtimes."""

import re
import zipfile

import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.weights.preprocessing import preprocess_input

LABELS = ("cup", "dog", "hat", "sea", "tree")
SIZE = 64
# Runs in MediaPipe's own environment: names and scores of images in an .npy file, as JSON.
CLASSIFY = """
import json, sys
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions

options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
classifier, found = ImageClassifier.create_from_options(options), []
for image in np.load(sys.argv[2]):
    answer = classifier.classify(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
    (head,) = answer.classifications
    found.append({category.category_name: category.score for category in head.categories})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def model():
    """A network with the normalisation by channel that MediaPipe must find inside."""
    import keras
    from harness import randomise

    keras.utils.set_random_seed(0)
    return randomise(
        keras_hybrid.MobileFormer26M(weights=None, classes=len(LABELS), input_shape=(SIZE, SIZE, 3))
    )


@pytest.fixture(scope="module")
def file(model, tmp_path_factory, require):
    """As `keras-hybrid convert` makes it of a run."""
    require(module="ai_edge_litert")
    path = tmp_path_factory.mktemp("app") / "model.tflite"
    return keras_hybrid.export_tflite(model, path, preprocessing=True, labels=LABELS)


@pytest.fixture(scope="module")
def images():
    """Photos' pixels, already square and scaled."""
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype("uint8")


@pytest.fixture(scope="module")
def scores(model, images):
    return model.predict(preprocess_input(images.astype("float32"), model), verbose=0)


def test_the_labels_are_read_from_the_zip_that_ends_the_file(file):
    with zipfile.ZipFile(file) as archive:
        assert tuple(archive.read("labels.txt").decode().splitlines()) == LABELS


def test_compiled_model(file, images, scores):
    from ai_edge_litert.compiled_model import CompiledModel

    model = CompiledModel.from_file(str(file))
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    for image, expected in zip(images, scores, strict=True):
        inputs[0].write(image.astype("float32").ravel())
        model.run_by_index(0, inputs, outputs)
        found = outputs[0].read(len(LABELS), np.float32)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_interpreter(file, images, scores):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=4)
    interpreter.allocate_tensors()
    (image_in,), (scores_out,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert tuple(image_in["shape"]) == (1, SIZE, SIZE, 3) and image_in["dtype"] is np.float32
    for image, expected in zip(images, scores, strict=True):
        interpreter.set_tensor(image_in["index"], image[None].astype("float32"))
        interpreter.invoke()
        found = interpreter.get_tensor(scores_out["index"])
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_media_pipe_s_image_classifier(file, images, scores, mediapipe, tmp_path):
    np.save(tmp_path / "images.npy", images)
    for named, expected in zip(
        mediapipe(CLASSIFY, file, tmp_path / "images.npy"), scores, strict=True
    ):
        found = [named[label] for label in LABELS]
        np.testing.assert_allclose(found, expected, atol=5e-3)  # it has scores in 8 bits
        assert np.argmax(found) == expected.argmax()


@pytest.mark.large
@pytest.mark.parametrize(
    "precision", ["float16", "dynamic", "int8", "int8_cpu", "int16x8"]
)  # and float32, above
def test_media_pipe_gives_the_file_s_class(precision, model, images, mediapipe, tmp_path):
    from keras_hybrid.export.verify import run_tflite

    data = preprocess_input(images.astype("float32"), model)
    options = {"representative_data": data} if precision.startswith("int") else {}
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", precision, preprocessing=True, labels=LABELS, **options
    )
    (own,) = run_tflite(path, images.astype("float32")).values()
    np.save(tmp_path / "images.npy", images)
    for named, scores in zip(mediapipe(CLASSIFY, path, tmp_path / "images.npy"), own, strict=True):
        found = [named[label] for label in LABELS]
        np.testing.assert_allclose(found, scores, atol=5e-3)
        assert scores[np.argmax(found)] == scores.max()


def test_the_page_calls_what_was_run(root):
    """Each call of a runtime in the page's Kotlin has its line in the table of what was run."""
    page = (root / "docs" / "phone.md").read_text()
    kotlin = "".join(re.findall(r"```kotlin\n(.*?)```", page, re.S))
    table = page[page.index("| Kotlin | Python that was run |") :]
    calls = re.findall(
        r"(CompiledModel\.create|ImageClassifier\.createFromOptions|Interpreter\(file"
        r"|\bclassify|\bcreate\w+Buffers|\bwriteFloat|\breadFloat|\brun|\bgetEntry)\b",
        kotlin,
    )
    assert len(set(calls)) == 10
    for call in set(calls):
        assert call in table, call
