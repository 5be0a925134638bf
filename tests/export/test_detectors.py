"""Files of detectors: raw outputs, decoded boxes, and detections by TensorFlow Lite's operator."""

import keras
import numpy as np
import pytest
from harness import randomise
from PIL import Image

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.metadata import read_metadata
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.tasks.detection.anchors import anchors_of, from_config
from keras_hybrid.tasks.detection.detect import decode
from keras_hybrid.tasks.detection.matching import overlaps
from keras_hybrid.tasks.detection.systems import system_of
from keras_hybrid.weights.preprocessing import preprocessing_of
from keras_hybrid.workflows.answers.detector import open_detector

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


def expected_of(model, images):
    """Decoded boxes as shares of the sides, and scores, of the Keras model."""
    outputs = model(images, training=False)
    system, anchors = system_of(model), anchors_of(model).boxes(SIZE, SIZE)
    boxes = np.stack([decode(system, np.asarray(x), anchors) for x in outputs["boxes"]])
    scores = np.asarray(system.scores(outputs["classes"]))
    return boxes / (1 if system.shares else SIZE), scores


def test_raw_files_say_how_they_are_read(detector, images, tmp_path):
    path = keras_hybrid.export_tflite(detector, tmp_path / "raw.tflite")
    found = run_tflite(path, images)
    outputs = detector(images, training=False)
    for key in ("boxes", "classes"):
        np.testing.assert_allclose(found[key], outputs[key], atol=1e-4)
    record = read_metadata(path).record["detector"]
    assert from_config(record["anchors"]) == anchors_of(detector)
    assert record["coder"]["size_scale"] == system_of(detector).coder.size_scale
    assert record["background_first"] == (record["system"] == "ssd")


def test_decoded_files_are_plain_operators(detector, images, tmp_path):
    path = keras_hybrid.export_tflite(detector, tmp_path / "decoded.tflite", postprocess="decoded")
    found = run_tflite(path, images)
    boxes, scores = expected_of(detector, images)
    np.testing.assert_allclose(found["boxes"], boxes, atol=1e-4)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
    inspection = inspect_tflite(path)
    assert not inspection.custom_ops and not inspection.flex_ops


def test_tflites_operator_finds_what_detect_finds(detector, images, tmp_path):
    path = keras_hybrid.export_tflite(
        detector, tmp_path / "whole.tflite", postprocess="tflite", max_detections=20
    )
    found = run_tflite(path, images[:1])
    assert found["boxes"].shape == (1, 20, 4)
    boxes, scores = expected_of(detector, images[:1])
    count = int(found["count"][0])
    assert count > 0
    for box, label, score in list(
        zip(found["boxes"][0], found["classes"][0], found["scores"][0], strict=True)
    )[:count]:
        of_label = scores[0, :, int(label)]
        place = np.abs(of_label - score).argmin()
        assert of_label[place] == pytest.approx(score, abs=1e-5)
        np.testing.assert_allclose(box[[1, 0, 3, 2]], boxes[0, place], atol=1e-4)


@pytest.mark.large
def test_int8_gives_offsets_and_logits_a_range_each(detector, images, tmp_path):
    quantized = keras_hybrid.quantize(detector)
    keras_hybrid.calibrate(quantized, images)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "int8.tflite", precision="int8")
    found, exact = run_tflite(path, images), detector(images, training=False)
    decoded = keras_hybrid.export_tflite(
        quantized, tmp_path / "decoded.tflite", precision="int8", postprocess="decoded"
    )
    boxes, scores = expected_of(detector, images)
    found_boxes, found_scores = (run_tflite(decoded, images)[key] for key in ("boxes", "scores"))
    assert np.abs(found_boxes - boxes).mean() < 0.1 * boxes.std()
    assert np.abs(found_scores - scores).mean() < 0.1 * scores.std()
    for key in ("boxes", "classes"):
        values = np.asarray(exact[key])
        steps = np.unique(np.round(np.diff(np.unique(found[key])), 6))
        assert steps[steps > 0].min() < 2.5 * (values.max() - values.min()) / 255, key
        error = np.abs(found[key] - values).mean() / values.std()
        assert error < 0.1, (key, error)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"postprocess": "nms"}, "postprocess='nms'"),
        ({"postprocess": "tflite", "max_detections": 0}, "positive integer"),
    ],
)
def test_impossible_choices_are_named(options, message, detector, tmp_path):
    with pytest.raises(ValueError, match=message):
        keras_hybrid.export_tflite(detector, tmp_path / "x.tflite", **options)


# Runs in MediaPipe's own environment: boxes, names and scores of a picture.
DETECTOR = """
import json, sys
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
with vision.ObjectDetector.create_from_options(options) as detector:
    found = detector.detect(mediapipe.Image.create_from_file(sys.argv[2])).detections
print(json.dumps([
    [x.bounding_box.origin_x, x.bounding_box.origin_y, x.bounding_box.width, x.bounding_box.height,
     x.categories[0].category_name, x.categories[0].score]
    for x in found
]))
"""


@pytest.mark.large
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_mediapipe_finds_what_detect_finds(precision, detector, tmp_path, mediapipe):
    # Large enough for MediaPipe's whole pixels to be of no account, in the input's aspect.
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), "uint8")
    picture = Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    picture.resize((48 * SIZE, 48 * SIZE), Image.Resampling.NEAREST).save(tmp_path / "picture.png")
    model, preprocessing = detector, preprocessing_of("mobilevit")
    if precision == "int8":
        images = np.asarray(picture, "float32")[None] / 255
        model = keras_hybrid.calibrate(keras_hybrid.quantize(detector), images)
    everything = keras_hybrid.detect(
        model, tmp_path / "picture.png", preprocessing=preprocessing, score_threshold=0.0
    )
    threshold = float(everything.scores[:40][-1]) - 1e-4
    names = [f"thing {index}" for index in range(CLASSES)]
    path = keras_hybrid.export_tflite(
        model,
        tmp_path / "whole.tflite",
        precision,
        preprocessing=preprocessing,
        postprocess="tflite",
        labels=names,
        score_threshold=threshold,
    )
    assert read_metadata(path).labels == tuple(names)
    found = mediapipe(DETECTOR, path, tmp_path / "picture.png")
    ours = open_detector(str(path)).predict([tmp_path / "picture.png"])[0]
    assert 10 <= len(found) <= len(ours)  # what lies beside the picture it leaves out
    compared = 0
    for x, y, width, height, name, score in found:  # whole pixels, cut off
        if min(x, y) <= 0 or max(x + width, y + height) >= 48 * SIZE:
            continue  # of what reaches out of the picture it keeps the size
        same = (ours.labels == names.index(name)) & (abs(ours.scores - score) < 0.005)
        assert np.abs(ours.boxes[same] - [x, y, x + width, y + height]).max(axis=1).min() <= 2
        compared += 1
    assert compared >= (1 if system_of(detector).clips_first else 3)
    if precision == "int8" or system_of(detector).clips_first:
        return  # scores tie, or boxes are clipped before they are compared
    wanted = keras_hybrid.detect(
        model, tmp_path / "picture.png", preprocessing=preprocessing, score_threshold=threshold
    )
    assert len(wanted) == len(ours) == len(found)
    for box, label in zip(wanted.boxes, wanted.labels, strict=True):
        assert np.asarray(overlaps(box[None], ours.boxes[ours.labels == label])).max() >= 0.99


def test_labels_are_of_objects(detector, tmp_path):
    for postprocess in ("raw", "decoded"):
        path = keras_hybrid.export_tflite(
            detector, tmp_path / "a.tflite", postprocess=postprocess, labels=["a", "b", "c"]
        )
        assert read_metadata(path).labels == ("a", "b", "c")
    with pytest.raises(ValueError, match="2 labels for 3 classes"):
        keras_hybrid.export_tflite(detector, tmp_path / "b.tflite", labels=["a", "b"])
    with pytest.raises(ValueError, match="top_k"):
        keras_hybrid.export_tflite(detector, tmp_path / "b.tflite", top_k=1)


def test_a_classifier_has_no_boxes(classifier, tmp_path):
    with pytest.raises(ValueError, match="is for a detector"):
        keras_hybrid.export_tflite(classifier, tmp_path / "x.tflite", postprocess="decoded")
