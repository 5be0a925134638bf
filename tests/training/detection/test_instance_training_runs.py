"""Training runs of Mask R-CNN: masks move with pictures, what is trained, how it resumes."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import small_detection
import tensorflow as tf
from small_detection import make_boxed_source, small_trunk

import keras_hybrid
from keras_hybrid.tasks.instances.mask_targets import mask_targets
from keras_hybrid.training.augmentation.instance_masks import packed_masks
from keras_hybrid.training.data.detection.detection_pipeline import (
    detection_evaluation_dataset,
    detection_training_dataset,
)
from keras_hybrid.training.detection_evaluation import evaluate_detection
from keras_hybrid.training.recipe.common import as_plain
from keras_hybrid.training.recipe.instances import InstanceRecipe
from keras_hybrid.training.recipe.recipe import load_recipe
from keras_hybrid.training.run.run import load_run, train, training_network, training_view
from keras_hybrid.training.tasks.instances import Instances
from keras_hybrid.training.tasks.of_recipe import task_of

RECIPE = small_detection.INSTANCE_RECIPE


@pytest.fixture(scope="module")
def source():
    return make_boxed_source(masks=True)


@pytest.fixture
def tiny(monkeypatch):
    def network(self, recipe, num_classes, size):
        return keras_hybrid.mask_rcnn(small_trunk(size), num_classes, **recipe.head_options)

    monkeypatch.setattr(Instances, "_network", network)


@pytest.fixture
def eager():
    """Steps that are not traced, which takes longer than these few."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def unpacked(masks, width):
    return np.unpackbits(masks, axis=-1)[..., :width]


@pytest.mark.parametrize("crops", [False, True])
def test_masks_move_with_their_pictures(source, crops):
    recipe = dataclasses.replace(RECIPE, crops=crops, distortion_probability=0.0)
    seen = 0
    for images, objects in detection_training_dataset(source, recipe).as_numpy_iterator():
        assert objects["masks"].shape == (4, 4, 64, 8) and objects["masks"].dtype == np.uint8
        masks = unpacked(objects["masks"], 64)
        for image, boxes, labels, own, size in zip(
            images, objects["boxes"], objects["labels"], masks, objects["sizes"], strict=True
        ):
            height, width = size.astype(int)
            assert max(height, width) == 64 and not image[height:].any()
            assert not own[labels < 0].any()
            for (x1, y1, x2, y2), label, mask in zip(boxes, labels, own, strict=True):
                if label < 0:
                    continue
                rows, columns = np.nonzero(mask)
                edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(edges, [x1, y1, x2, y2], atol=0.51)
                # A square with a hole: bright or dark where the mask is, and not in the hole.
                inside = np.median(image[mask > 0])
                assert abs(inside - (220, 30)[label] / 255) < 0.1
                hole = np.zeros((64, 64), bool)
                hole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
                hole &= mask == 0
                if hole.sum() > 40:
                    assert abs(np.median(image[hole]) - 128 / 255) < 0.15
                    seen += 1
    assert seen > 20


def test_packed_masks_have_the_same_targets():
    random = np.random.default_rng(0)
    masks = (random.uniform(size=(2, 3, 30, 45)) < 0.5).astype("uint8")
    packed = packed_masks(tf.constant(masks)).numpy()
    assert packed.shape == (2, 3, 30, 6)
    np.testing.assert_array_equal(unpacked(packed, 45), masks)
    regions = random.uniform(0, 20, (2, 5, 4)).astype("float32")
    regions[..., 2:] += 5
    places = random.integers(0, 3, (2, 5))
    expected = mask_targets(masks, places, regions, 7)
    np.testing.assert_array_equal(mask_targets(packed, places, regions, 7, 45), expected)
    with pytest.raises(ValueError, match="Masks of 60 pixels a row"):
        mask_targets(packed, places, regions, 7, 60)


def test_regions_are_cut_in_pieces(monkeypatch):
    random = np.random.default_rng(0)
    masks = (random.uniform(size=(1, 2, 20, 20)) < 0.5).astype("uint8")
    regions = np.array([[[0, 0, 9, 9], [3, 2, 20, 11], [5, 5, 15, 20]]], "float32")
    places = np.array([[0, 1, 1]])
    whole = mask_targets(masks, places, regions, 5)
    monkeypatch.setattr("keras_hybrid.tasks.instances.mask_targets._LARGEST_COPY", 500)
    np.testing.assert_array_equal(mask_targets(masks, places, regions, 5), whole)


def test_regions_end_where_a_padded_picture_does(source, tiny):
    """The sizes that the pipeline tells are those that proposals are clipped to."""
    network = task_of(RECIPE).new_network(RECIPE, 2)
    view, _ = training_view(network, RECIPE)
    images, objects = next(iter(detection_evaluation_dataset(source, RECIPE)))
    given = []
    outputs, regions = view(images), view.regions
    view.regions = lambda inputs: given.append(inputs[-1]) or regions(inputs)
    view.compute_loss(images, objects, outputs)
    np.testing.assert_array_equal(given[0], objects["sizes"])
    assert given[0].numpy().min() < 64


def test_statistics_stay_where_the_recipe_says_so(source, tiny):
    images, objects = next(iter(detection_evaluation_dataset(source, RECIPE)))
    for frozen in (True, False):
        recipe = dataclasses.replace(RECIPE, frozen_statistics=frozen, ema_momentum=0.5)
        network = task_of(recipe).new_network(recipe, 2)
        view, average = training_view(network, recipe)
        view.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        before = {x.path: keras.ops.convert_to_numpy(x) for x in network.weights}
        view.fit(images, objects, verbose=0)
        moved = {
            x.path
            for x in network.weights
            if (keras.ops.convert_to_numpy(x) != before[x.path]).any()
        }
        assert "stem_norm4/gamma" in moved and "head_mask_logits/kernel" in moved
        assert ("stem_norm0/moving_mean" in moved) != frozen
        for statistic, mean in average.statistics.pairs:  # the first step's
            np.testing.assert_allclose(statistic, mean, rtol=1e-5)


def test_the_network_of_any_size_is_trained_at_the_batches_size():
    recipe = dataclasses.replace(RECIPE, model="IFormerT", fit="800x1333", resolution=1344)
    recipe = dataclasses.replace(recipe, head_options={**recipe.head_options, "channels": 8})
    model = task_of(recipe).new_network(recipe, 2)
    assert model.input_shape == (None, None, None, 3)
    network = training_network(recipe, model)
    assert network.input_shape == (None, 1344, 1344, 3)
    for one, other in zip(network.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.large
def test_a_run_is_trained_interrupted_resumed_and_read_again(source, tmp_path, tiny, eager):
    recipe = dataclasses.replace(RECIPE, epochs=2, weight_decay=0.05, ema_momentum=0.5)
    whole = train(recipe, source, tmp_path / "whole", stream=io.StringIO())
    first, last = whole.history[0], whole.history[-1]
    parts = ("region_class", "region_box", "class", "box", "mask")
    assert last["loss"] == pytest.approx(sum(last[f"{kind}_loss"] for kind in parts), rel=1e-3)
    assert last["loss"] < first["loss"]

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, source, tmp_path / "part", stream=io.StringIO(), callbacks=(Interrupt(),))
    resumed = train(recipe, source, tmp_path / "part", stream=io.StringIO())
    for name in ("loss", "val_loss", "val_mask_ap", "val_ap"):
        assert resumed.history[-1][name] == pytest.approx(last[name], rel=1e-2, abs=1e-3)
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["task"] == "instances"
    again = load_run(tmp_path / "whole")
    assert again.recipe == recipe and as_plain(again.recipe)["head"] == "mask_rcnn"
    found = evaluate_detection(again.model, source, recipe)
    assert found.precision.ap == pytest.approx(last["val_ap"], abs=1e-3)
    assert found.mask_precision.ap == pytest.approx(last["val_mask_ap"], abs=1e-3)
    assert all(one.masks is None for one in found.detections)


def test_data_without_masks_are_refused():
    with pytest.raises(ValueError, match="Objects with masks"):
        task_of(RECIPE).prepared_source(make_boxed_source(), RECIPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "retinanet"}, "head='retinanet'"),
        ({"positive_regions": 20}, "positive_regions=20, regions=12"),
        ({"candidates": 0}, "candidates=0"),
        ({"fit": "800x1333"}, "resolution=64"),
    ],
)
def test_numbers_beyond_their_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_the_recipe_carries_the_published_numbers(root):
    recipe = load_recipe(root / "recipes/detect/iformer.py", "L2", InstanceRecipe)
    expected = {
        "model": "IFormerL2",
        "model_options": {"window_size": 16},
        "head": "mask_rcnn",
        "head_options": {},
        "initial_weights": "imagenet_distill",
        "drop_path_rate": 0.0,
        "fit": "800x1333",
        "resolution": 1344,
        "shorter_side": 800,
        "epochs": 12,
        "batch_size": 16,
        "learning_rate": 2e-4,
        "weight_decay": 0.05,
        "decayed": ("all",),
        "decay": "multistep",
        "decay_epochs": (8, 11),
        "warmup_steps": 500,
        "warmup_learning_rate": 1e-6 * 2e-4,
        "clip_norm": None,
        "ema_momentum": None,
        "precision": "float32",
        "layer_decay": None,
        "flip_probability": 0.5,
        "crops": False,
        "distortion_probability": 0.0,
        "frozen_statistics": True,
        "frozen_stages": None,
        "empty_images": False,
        "candidates": 2000,
        "regions": 512,
        "positive_regions": 128,
    }
    assert {field: getattr(recipe, field) for field in expected} == expected
    with pytest.raises(ValueError, match="one of .*Received: variant='T'"):
        load_recipe(root / "recipes/detect/iformer.py", "T", InstanceRecipe)
