"""Batches of wide images and of upright ones: what is in them, and that both are trained on."""

import dataclasses
import io

import keras
import numpy as np
import pytest
import small_detection
from small_detection import make_boxed_source, make_tiny_detector, small_trunk

import keras_hybrid
from keras_hybrid.tasks.detection.detection_training import DetectionTraining
from keras_hybrid.tasks.instances.instance_training import InstanceTraining
from keras_hybrid.training.data.detection.detection_pipeline import (
    detection_evaluation_dataset,
    detection_training_dataset,
)
from keras_hybrid.training.data.detection.detection_source import with_objects
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.data.epoch_order import examples_in_order
from keras_hybrid.training.data.pipeline import steps_per_epoch
from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.run.run import train, training_network
from keras_hybrid.training.tasks.of_recipe import task_of

RETINANET = {"head": "retinanet", "head_options": {"channels": 8, "head_convolutions": 1}}
RECIPE = dataclasses.replace(small_detection.RECIPE, **RETINANET, shorter_side=48)
INSTANCE_RECIPE = dataclasses.replace(small_detection.INSTANCE_RECIPE, shorter_side=48)
SIZES = ((36, 64), (40, 40), (64, 36), (40, 48))  # a square counts as wide


@pytest.fixture(scope="module", params=[False, True], ids=["boxes", "masks"])
def source(request):
    return make_boxed_source(SIZES, train=23, test=7, masks=request.param)


@pytest.fixture
def tiny(monkeypatch):
    def network(self, recipe, num_classes, size):
        if recipe.head == "retinanet":
            return make_tiny_detector(recipe, num_classes, size)
        return keras_hybrid.mask_rcnn(small_trunk(size), num_classes, **recipe.head_options)

    monkeypatch.setattr(type(task_of(RECIPE)), "_network", network)


def recipe_of(source):
    return INSTANCE_RECIPE if source.has_masks else RECIPE


def batches(*arguments, **options):
    return list(detection_training_dataset(*arguments, **options).as_numpy_iterator())


def assert_same(one, other):
    keras.tree.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_an_epoch_is_a_permutation_in_batches_of_one_orientation(accumulation_steps):
    groups = np.arange(23) % 3 == 0  # 8 upright, 15 wide
    recipe = dataclasses.replace(RECIPE, epochs=8, accumulation_steps=accumulation_steps)
    steps = (2 + 3) * accumulation_steps
    examples = examples_in_order(23, recipe, steps, 0, 0, ALONE, groups=groups)
    places = [int(example["place"]) for example in examples.as_numpy_iterator()]
    epochs = np.reshape(places, (8, 5, 4))
    trained = set()
    for epoch in epochs:
        assert len(set(epoch.flat)) == 20  # of 15 wide ones 3 are left over
        assert all(len(set(groups[batch])) == 1 for batch in epoch)
        assert np.flatnonzero(groups).tolist() == sorted(epoch[groups[epoch]])
        trained |= set(epoch.flat)
    assert trained == set(range(23))
    orders = {tuple(groups[epoch[:, 0]]) for epoch in epochs}
    assert len(orders) > 2  # batches come mixed, and otherwise in each epoch


def test_batches_hold_pictures_with_their_boxes(source):
    recipe = dataclasses.replace(recipe_of(source), distortion_probability=0.0)
    assert steps_per_epoch(source, recipe) == 5  # of 6 upright and 17 wide images
    found = batches(source, recipe)
    assert len(found) == 10
    shapes = [images.shape for images, _ in found]
    assert shapes.count((4, 48, 64, 3)) == 8 and shapes.count((4, 64, 48, 3)) == 2
    for images, objects in found:
        for image, boxes, labels in zip(images, objects["boxes"], objects["labels"], strict=True):
            for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
                assert 0 <= x1 <= x2 <= image.shape[1] and 0 <= y1 <= y2 <= image.shape[0]
                if label >= 0:
                    edge = image[round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x1) + 3]
                    assert abs(np.median(edge) - (220, 30)[label] / 255) < 0.2
        if source.has_masks:
            assert objects["masks"].shape == (4, 4, images.shape[1], images.shape[2] // 8)
            masks = np.unpackbits(objects["masks"], axis=-1)
            there = objects["labels"] >= 0
            assert (masks.any(axis=(2, 3)) == there).all()


def test_a_run_sees_the_same_wherever_it_starts_and_however_many_read(source):
    recipe = dataclasses.replace(recipe_of(source), crops=True)
    whole = batches(source, recipe)
    again = batches(source, recipe, first_epoch=1, first_step=2)
    assert len(again) == 3
    for one, other in zip(whole[-3:], again, strict=True):
        assert_same(one, other)
    parts = [batches(source, recipe, share=Share(index, 2, 2)) for index in range(2)]
    for one, *pieces in zip(whole, *parts, strict=True):
        assert_same(one, keras.tree.map_structure(lambda *x: np.concatenate(x), *pieces))


def test_every_image_is_evaluated_once(source):
    recipe = recipe_of(source)
    alone = list(detection_evaluation_dataset(source, recipe).as_numpy_iterator())
    assert [images.shape for images, _ in alone] == [(4, 48, 64, 3), (2, 48, 64, 3), (1, 64, 48, 3)]
    parts = [
        detection_evaluation_dataset(source, recipe, share=Share(index, 2, 2)).as_numpy_iterator()
        for index in range(2)
    ]
    for one, *pieces in zip(alone, *parts, strict=True):
        images, objects = keras.tree.map_structure(lambda *x: np.concatenate(x), *pieces)
        assert len(images) == 4  # whole ones on several devices
        count = len(one[0])
        assert_same(one[0], images[:count])
        assert not images[count:].any() and (objects["labels"][count:] == -1).all()


def test_orientation_is_what_a_viewer_shows(tmp_path):
    """A portrait that a phone has written lying on its side, with a note in EXIF."""
    from PIL import Image

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for name, orientation in (("lying", 6), ("wide", 1), ("mirrored", 2)):
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.new("RGB", (60, 40), "gray").save(
                tmp_path / "images" / split / f"{name}.jpg", exif=exif
            )
            (tmp_path / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "classes.txt").write_text("thing")
    source = open_detection_source(f"folder:{tmp_path}")
    assert source.upright("train").tolist() == [True, False, False]
    unknown = dataclasses.replace(source, count_objects=None, find_upright=None)
    assert unknown.upright("train").tolist() == [True, False, False]
    assert unknown.counts("train").tolist() == [1, 1, 1]
    recipe = dataclasses.replace(RECIPE, batch_size=1, epochs=1)
    shapes = sorted(images.shape for images, _ in batches(source, recipe))
    assert shapes == [(1, 48, 64, 3), (1, 48, 64, 3), (1, 64, 48, 3)]
    with pytest.warns(UserWarning, match="1 images of train are upright, fewer than batch_size=2"):
        prepared = task_of(RECIPE).prepared_source(
            source, dataclasses.replace(recipe, batch_size=2)
        )
    assert steps_per_epoch(prepared, dataclasses.replace(recipe, batch_size=2)) == 1


def test_images_without_objects_are_left_out_of_both_orientations():
    source = make_boxed_source(SIZES, train=12, test=2, empty=2)
    kept = with_objects(source)
    np.testing.assert_array_equal(kept.upright("train"), source.upright("train")[:10])
    assert steps_per_epoch(kept, dataclasses.replace(RECIPE, batch_size=2)) == 4 + 1


@pytest.mark.large
def test_less_is_padded_at_the_published_size():
    """480 x 640 px, three quarters of COCO's images: wide, upright and square ones."""
    sizes = ((480, 640),) * 15 + ((640, 480),) * 4 + ((480, 480),)
    source = make_boxed_source(sizes, train=20, test=1, empty=0)
    recipe = dataclasses.replace(RECIPE, fit="800x1333", resolution=1344, shorter_side=800)
    padded = []
    for changed in (recipe, dataclasses.replace(recipe, shorter_side=None)):
        found = batches(source, dataclasses.replace(changed, epochs=1, distortion_probability=0))
        assert len(found) == 5
        shown = sum(np.count_nonzero(images[..., 0]) for images, _ in found)
        padded.append(1 - shown / sum(images[..., 0].size for images, _ in found))
    assert padded[0] == pytest.approx(0.216, abs=2e-3)
    assert padded[1] == pytest.approx(0.534, abs=2e-3)


@pytest.mark.large
def test_both_sizes_are_trained_on_and_compiled(source, tmp_path, tiny, monkeypatch):
    recipe = dataclasses.replace(recipe_of(source), epochs=1)
    kind = InstanceTraining if source.has_masks else DetectionTraining
    traced, compute_loss = [], kind.compute_loss

    def remembered(self, x, *arguments, **options):
        traced.append(str(x.shape))
        return compute_loss(self, x, *arguments, **options)

    monkeypatch.setattr(kind, "compute_loss", remembered)
    run = train(recipe, source, tmp_path / "run", stream=io.StringIO())
    # Training and evaluation, of whole batches and of the rest.
    assert sorted(traced) == ["(None, 48, 64, 3)"] * 2 + ["(None, 64, 48, 3)"] * 2
    for row in run.history:
        assert np.isfinite(list(row.values())).all()
        assert row["loss"] > 0 and row["val_loss"] > 0
    assert run.model.input_shape == (None, 64, 64, 3)  # fit=square is saved for squares


def test_a_size_is_trained_as_by_the_network_of_that_size(source, tiny):
    """Whatever takes batches of two sizes computes what is made for one of them."""
    recipe = recipe_of(source)
    task = task_of(recipe)
    network = task.trained_network(recipe, 2, any_size=True)
    assert network.input_shape == (None, None, None, 3)
    for images, objects in detection_evaluation_dataset(source, recipe):
        sized = task._network(recipe, 2, images.shape[1:3])
        sized.set_weights(network.get_weights())
        losses = []
        for model in (sized, network):
            view = task.view(recipe, model)
            losses.append(float(view.compute_loss(images, objects, view(images))))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_what_is_saved_is_trained_apart(tiny):
    for changes, saved in (({}, 64), ({"fit": "800x1333", "resolution": 1344}, None)):
        side = 800 if changes else 48
        recipe = dataclasses.replace(INSTANCE_RECIPE, shorter_side=side, **changes)
        model = task_of(recipe).new_network(recipe, 2)
        assert model.input_shape == (None, saved, saved, 3)
        assert training_network(recipe, model).input_shape == (None, None, None, 3)
        assert task_of(recipe).sized_network(recipe, 2).input_shape[1] == side
