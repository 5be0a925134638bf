"""Mask R-CNN as three files and a host loop: what Keras finds, and nothing where nothing is."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from harness import randomise

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.instances import export_instances
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.tasks.instances.detect import find_instances
from keras_hybrid.tasks.instances.host_loop import InstanceFiles, propose
from keras_hybrid.tasks.instances.parts import parts_of
from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes


@pytest.fixture(scope="module")
def network():
    """A narrow Mask R-CNN whose heads say something."""
    x = image = keras.Input((64, 64, 3), name="image")
    for index in range(5):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name=f"stem_down{index}")(x)
    model = keras_hybrid.mask_rcnn(
        keras.Model(image, x, name="small"),
        4,
        channels=8,
        box_units=16,
        mask_convolutions=1,
        max_proposals=40,
        max_detections=20,
    )
    randomise(model)
    random = np.random.default_rng(0)
    for name, deviation in (("rpn_conv", 0.1), ("rpn_logits", 0.3), ("rpn_offsets", 0.1)):
        kernel = model.get_layer(f"head_{name}").kernel
        kernel.assign(random.normal(0, deviation, kernel.shape))
    kernel = model.get_layer("head_box_logits").kernel
    kernel.assign(random.normal(0, 0.5, kernel.shape))
    return model


@pytest.fixture(scope="module")
def images():
    return np.stack([scene.image for scene in digit_scenes(10, 64)]).astype("float32") / 255


def lost(found, expected, tolerance=1e-2):
    """How many of the expected objects have no equal of the same label, place, score and mask."""
    count = 0
    for index in range(len(expected["scores"])):
        same = found["labels"] == expected["labels"][index]
        same &= np.abs(found["scores"] - expected["scores"][index]) <= 1e-3
        same &= (
            np.abs(found["boxes"] - expected["boxes"][index]).max(axis=1, initial=0) <= tolerance
        )
        count += not same.any()
    return count


@pytest.mark.large
def test_the_files_find_what_keras_finds(network, images, tmp_path):
    paths = export_instances(network, tmp_path)
    assert all(path.exists() for path in paths)
    for path in paths[:3]:
        seen = inspect_tflite(path)
        assert not seen.flex_ops and not seen.custom_ops
    files = InstanceFiles(tmp_path)
    parts = parts_of(network)
    total = missed = 0
    for image in images:
        keras_found = {k: x[0] for k, x in find_instances(parts, image[None], [[64, 64]]).items()}
        there = keras_found["scores"] > 0
        keras_found = {kind: x[there] for kind, x in keras_found.items()}
        found = files.detect(image)
        assert found["masks"].shape == (len(found["scores"]), 64, 64)
        total += len(keras_found["scores"])
        missed += lost(found, keras_found) + lost(keras_found, found)
    assert total > 30 and missed == 0

    picture = find_instances(parts, images[:1], [[40, 50]])
    found = files.detect(images[0], (40, 50))
    assert found["masks"].shape[1:] == (40, 50)
    assert len(found["scores"]) == (picture["scores"][0] > 0).sum()
    assert found["boxes"][:, 2].max() <= 50 and found["boxes"][:, 3].max() <= 40

    rules = json.loads((tmp_path / "rules.json").read_text())
    rules["score_threshold"] = 1.0  # nothing is an object
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    nothing = InstanceFiles(tmp_path).detect(images[0])
    assert nothing["boxes"].shape == (0, 4) and nothing["masks"].shape == (0, 64, 64)
    maps = files._first(image=images[:1])
    no_place = propose(
        [maps[f"logits{i}"][0] for i in range(5)],
        [maps[f"offsets{i}"][0] for i in range(5)],
        (0, 0),
        dataclasses.replace(files.rules),
    )
    assert no_place.shape == (0, 4)
    assert len(files.detect(images[0], (0, 0))["boxes"]) == 0
    (tmp_path / "mask_head.tflite").unlink()
    with pytest.raises(ValueError, match="without mask_head.tflite"):
        InstanceFiles(tmp_path)


@pytest.mark.large
def test_one_file_is_the_whole_network(network, images, tmp_path):
    path = keras_hybrid.export_tflite(network, tmp_path / "whole.tflite")
    seen = inspect_tflite(path)
    assert not seen.flex_ops and not seen.custom_ops
    given = np.concatenate([images, np.zeros_like(images[:1])])
    found = run_tflite(path, given)
    expected = network(given, training=False)
    assert set(found) == set(expected) and (np.asarray(expected["scores"]) > 0).sum() > 30
    for kind, value in expected.items():
        np.testing.assert_allclose(found[kind], value, atol=1e-3, err_msg=kind)
    nothing = found["scores"][-1] == 0  # places without an object hold zeros, and the label -1
    assert (found["labels"][-1][nothing] == -1).all() and not found["boxes"][-1][nothing].any()


@pytest.mark.large
def test_backbone_and_pyramid_in_int8(network, images, tmp_path):
    export_instances(
        network, tmp_path, "int8", head_precision="float16", representative_data=images
    )
    seen = inspect_tflite(tmp_path / "first.tflite")
    assert seen.integer_offenders == ()
    files, parts = InstanceFiles(tmp_path), parts_of(network)
    near = total = 0
    for image in images[:4]:
        expected = find_instances(parts, image[None], [[64, 64]])
        found = files.detect(image)
        for box, label, score in zip(
            expected["boxes"][0], expected["labels"][0], expected["scores"][0], strict=True
        ):
            if score > 0.3:
                total += 1
                same = found["labels"] == label
                near += bool((same & (np.abs(found["boxes"] - box).max(1) < 8)).any())
    assert total > 4 and near >= 0.6 * total


@pytest.mark.parametrize(
    "options, message",
    [({"head_precision": "int8"}, "head_precision='int8'"), ({"precision": "half"}, "half")],
)
def test_bad_options_are_named(network, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_instances(network, tmp_path, **options)


def test_files_are_of_mask_rcnn_of_one_size(tmp_path):
    model = keras_hybrid.MobileViTXXS(weights=None, input_shape=(64, 64, 3))
    with pytest.raises(ValueError, match="Mask R-CNN of this package"):
        export_instances(model, tmp_path)
