"""KerasCV: its RetinaNet on this package's backbones, its metrics beside pycocotools."""

import importlib

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.models.features import feature_pyramid, pyramid_layers


@pytest.fixture(scope="module")
def keras_cv(require):
    require(module="keras_cv")
    return importlib.import_module("keras_cv")


@pytest.mark.large
@pytest.mark.parametrize("name", ["MobileViTXXS"])
def test_kerascv_takes_our_backbones_as_its_own(keras_cv, name):
    backbone = keras_hybrid.build_model(
        name, weights=None, include_top=False, input_shape=(128, 128, 3)
    )
    backbone.pyramid_level_inputs = pyramid_layers(backbone)
    levels = feature_pyramid(backbone)
    assert all(
        backbone.get_layer(x).output is levels[k] for k, x in pyramid_layers(backbone).items()
    )
    model = keras_cv.models.RetinaNet(backbone=backbone, num_classes=3, bounding_box_format="xyxy")
    model.compile(
        classification_loss="focal", box_loss="smoothl1", optimizer=keras.optimizers.SGD(0.01)
    )
    kernel = backbone.get_layer("stem_conv").kernel
    before = np.array(kernel)
    truth = {
        "boxes": np.array([[[10, 10, 90, 100], [-1, -1, -1, -1]]], "float32"),
        "classes": np.array([[1, -1]], "float32"),
    }
    images = np.random.default_rng(0).normal(size=(1, 128, 128, 3)).astype("float32")
    history = model.fit(images, truth, verbose=0).history
    assert np.isfinite(history["loss"]).all() and not np.array_equal(before, kernel)


@pytest.mark.large
def test_kerascvs_metrics_are_ours(keras_cv):
    random = np.random.default_rng(0)
    objects, detections = [], []
    for _ in range(12):
        count = random.integers(1, 6)
        corner, sides = random.uniform(0, 60, (count, 2)), random.uniform(20, 120, (count, 2))
        boxes = np.concatenate([corner, corner + sides], axis=1)
        labels = random.integers(0, 3, count)
        objects.append(keras_hybrid.Objects(boxes, labels))
        found = boxes + random.normal(0, 4, boxes.shape)
        wrong = random.uniform(size=count) < 0.2
        detections.append(
            keras_hybrid.Detections(
                found, random.uniform(0.1, 1, count), np.where(wrong, (labels + 1) % 3, labels)
            )
        )
    ours = keras_hybrid.average_precision(detections, objects, 3)

    def padded(values, fill):
        most = max(map(len, values))
        width = np.shape(values[0])[1:]
        rows = [np.concatenate([v, np.full((most - len(v), *width), fill)]) for v in values]
        return np.array(rows, "float32")

    metric = keras_cv.metrics.BoxCOCOMetrics("xyxy", evaluate_freq=1)
    metric.update_state(
        {
            "boxes": padded([x.boxes for x in objects], -1),
            "classes": padded([x.labels for x in objects], -1),
        },
        {
            "boxes": padded([x.boxes for x in detections], -1),
            "classes": padded([x.labels for x in detections], -1),
            "confidence": padded([x.scores for x in detections], -1),
        },
    )
    theirs = {key: float(value) for key, value in metric.result(force=True).items()}
    assert 0.2 < ours.ap < 0.9
    assert theirs["MaP"] == pytest.approx(ours.ap, abs=0.005)
    assert theirs["MaP@[IoU=50]"] == pytest.approx(ours.ap50, abs=0.005)
    assert theirs["MaP@[IoU=75]"] == pytest.approx(ours.ap75, abs=0.005)
