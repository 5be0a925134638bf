"""Scenes of digits: exact masks and boxes, repeatable, with digits kept apart."""

import numpy as np
import pytest

from keras_hybrid.training.data.digit_scenes import scenes
from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes
from keras_hybrid.training.data.digits.handwriting import handwritten_digits


@pytest.fixture(scope="module")
def some(require):
    require(module="sklearn")
    return digit_scenes(40, size=64)


def test_masks_instances_and_boxes_say_the_same(some):
    for scene in some:
        assert scene.image.shape == (64, 64, 3) and scene.mask.shape == (64, 64)
        assert len(scene.labels) == len(scene.boxes) == len(scene.instances) > 0
        expected = np.zeros((64, 64), int)
        for label, instance, box in zip(scene.labels, scene.instances, scene.boxes, strict=True):
            assert not expected[instance].any()  # a pixel is of one card
            expected[instance] = 1 + label
            left, top, right, bottom = box.astype(int)
            assert instance[top:bottom, left:right].sum() == instance.sum() > 0
            for edge in (top, bottom - 1):
                assert instance[edge].any()
            for edge in (left, right - 1):
                assert instance[:, edge].any()
        np.testing.assert_array_equal(scene.mask, expected)


def test_the_card_is_the_object(some):
    """Its color is there, and a digit's ink on it; around it is the photograph."""
    for scene in some[:10]:
        for instance in scene.instances:
            colors, counts = np.unique(scene.image[instance], axis=0, return_counts=True)
            assert counts.max() > 0.25 * instance.sum()  # the card's
            card = colors[counts.argmax()].astype(int)
            assert np.abs(scene.image[instance].astype(int) - card).max() > 60  # the ink
            around = scene.image[scene.mask == 0].astype(int)
            assert (np.abs(around - card).max(-1) == 0).mean() < 0.1


def test_sizes_are_from_a_fifth_to_two_thirds_of_the_picture(some):
    sides = np.concatenate([scene.boxes[:, 2:] - scene.boxes[:, :2] for scene in some]).max(-1)
    assert 64 / 5 * 0.7 < sides.min() < 20 and 30 < sides.max() <= 64 * 2 / 3 + 1
    assert {len(scene.labels) for scene in some} == {1, 2, 3, 4}
    assert {label for scene in some for label in scene.labels.tolist()} == set(range(10))


def test_a_scene_follows_from_seed_split_and_number(some):
    again = digit_scenes(3, size=64)
    for scene, same in zip(some, again, strict=False):
        np.testing.assert_array_equal(scene.image, same.image)
        np.testing.assert_array_equal(scene.instances, same.instances)
    for other in (digit_scenes(1, 64, seed=1), digit_scenes(1, 64, split="test")):
        assert (other[0].image != some[0].image).any()
    assert (some[0].image != some[1].image).any()


def test_test_digits_are_on_no_training_card(some, monkeypatch):
    numbers = {split: set(handwritten_digits(split)[0].tolist()) for split in ("train", "test")}
    assert not numbers["train"] & numbers["test"] and len(set.union(*numbers.values())) == 1797
    asked = []
    monkeypatch.setattr(
        scenes, "handwritten_digits", lambda split: asked.append(split) or handwritten_digits(split)
    )
    digit_scenes(2, 32, split="test")
    assert set(asked) == {"test"}


@pytest.mark.parametrize(
    "arguments", [{"split": "validation"}, {"count": 0}, {"size": 8}, {"size": 64.0}]
)
def test_impossible_scenes_are_refused(arguments):
    with pytest.raises(ValueError, match=rf"Received: {next(iter(arguments))}="):
        digit_scenes(**{"count": 1, **arguments})


def test_the_data_set_holds_the_scenes(tmp_path, require, monkeypatch):
    require(module="tensorflow_datasets")
    from keras_hybrid.training.data.digit_scenes import digit_scenes_dataset_builder as module

    monkeypatch.setattr(module, "COUNTS", {"train": 3, "test": 2})
    builder = module.Builder(data_dir=tmp_path)
    builder.download_and_prepare()
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 3,
        "test": 2,
    }
    expected = {scene.image.tobytes(): scene for scene in digit_scenes(2, 128, split="test")}
    for example in builder.as_dataset(split="test").as_numpy_iterator():
        scene = expected[example["image"].tobytes()]
        np.testing.assert_array_equal(example["segmentation_mask"][..., 0], scene.mask)
        objects = example["objects"]
        np.testing.assert_array_equal(objects["label"], scene.labels)
        np.testing.assert_array_equal(objects["mask"][..., 0] > 0, scene.instances)
        boxes = objects["bbox"][:, [1, 0, 3, 2]] * 128  # TFDS: top, left, bottom, right
        np.testing.assert_allclose(boxes, scene.boxes, atol=1e-4)
