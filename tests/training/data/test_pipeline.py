"""Pipelines: repeatable under a seed, resumable at any epoch, every image once."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid import preprocess_input
from keras_hybrid.training.data import image_source
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import (
    evaluation_dataset,
    steps_per_epoch,
    training_dataset,
)
from keras_hybrid.training.data.process_share import Share


def batches(dataset):
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def equal(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_an_epoch_follows_from_seed_and_number_alone(source, recipe):
    everything = batches(training_dataset(source, recipe))
    assert len(everything) == 3 * steps_per_epoch(source, recipe) == 12
    keras.utils.set_random_seed(99)  # whatever seeds the process has
    assert equal(everything[4:], batches(training_dataset(source, recipe, first_epoch=1)))
    other = dataclasses.replace(recipe, seed=8)
    assert not equal(everything, batches(training_dataset(source, other)))


def test_each_epoch_has_every_image_once_in_another_order(source, recipe):
    plain = dataclasses.replace(
        recipe, crop_area=(1.0, 1.0), crop_aspect=(4 / 3, 4 / 3), flip_probability=0
    )
    everything = batches(training_dataset(source, plain))
    epochs = [np.concatenate([x for x, _ in everything[i : i + 4]]) for i in (0, 4, 8)]
    means = [epoch.mean((1, 2, 3)) for epoch in epochs]
    for mean in means:
        np.testing.assert_allclose(np.sort(mean), np.sort(means[0]), rtol=1e-5)
    assert not np.array_equal(means[0], means[1])
    assert len(np.unique(np.round(means[0], 5))) == 32


def sorted_source(classes, images, seen=None, by_place=True):
    """Tiny images sorted by class, as folders have them; `seen` collects the places read."""
    jpeg = tf.io.encode_jpeg(np.zeros((16, 16, 3), "uint8"))

    def read(place):
        if seen is not None:
            place = tf.numpy_function(lambda at: seen.append(int(at)) or at, [place], tf.int64)
            place = tf.ensure_shape(place, ())
        return {"image": jpeg, "label": place // images}

    def in_order(split):
        return tf.data.Dataset.range(classes * images).map(read)

    return ImageSource(
        "sorted",
        tuple(map(str, range(classes))),
        {"train": classes * images},
        open_split=None if by_place else in_order,
        open_reader=(lambda split: read) if by_place else None,
    )


@pytest.mark.large
@pytest.mark.parametrize("by_place", [True, False])
def test_the_whole_epoch_is_a_permutation_however_long(recipe, by_place):
    """100 classes of 150 images, sorted: a batch of 128 holds 72 +- 4 classes at random."""
    source = sorted_source(100, 150, by_place=by_place)
    recipe = dataclasses.replace(
        recipe, batch_size=128, epochs=2, crop_area=(1.0, 1.0), flip_probability=0
    )
    labels = [y.numpy().argmax(-1) for _, y in training_dataset(source, recipe)]
    assert len(labels) == 2 * 117
    assert min(len(set(batch)) for batch in labels) >= 55
    for epoch in (np.concatenate(labels[:117]), np.concatenate(labels[117:])):
        counts = np.bincount(epoch, minlength=100)
        assert counts.max() <= 150 and counts.sum() == 117 * 128  # none twice
        halves = np.stack([np.bincount(half, minlength=100) for half in np.split(epoch, 2)])
        expected = counts / 2
        chi_square = ((halves - expected) ** 2 / expected).sum()
        assert chi_square < 160  # about 100 +- 14 where classes are anywhere


@pytest.mark.large
def test_what_fills_no_batch_is_left_out_anew_and_resuming_keeps_the_order(recipe):
    """Also inside an epoch, and for each process: of two, each reads its half of the images."""
    recipe = dataclasses.replace(recipe, batch_size=8, epochs=3)

    def places(seen=None, **options):
        """Of the images of each batch; a class for each image tells them."""
        dataset = training_dataset(sorted_source(28, 1, seen), recipe, **options)
        return [labels.numpy().argmax(-1).tolist() for _, labels in dataset]

    everything = places()
    assert len(everything) == 9
    epochs = [{*sum(everything[i : i + 3], [])} for i in (0, 3, 6)]
    assert all(len(epoch) == 24 for epoch in epochs) and len(set(map(frozenset, epochs))) > 1
    assert places(first_epoch=1, first_step=2) == everything[5:]
    reads = [[], []]
    halves = [places(reads[index], share=Share(index, 2, 2)) for index in (0, 1)]
    assert [len(read) for read in reads] == [36, 36]
    assert [first + second for first, second in zip(*halves, strict=True)] == everything


@pytest.mark.large
def test_an_epoch_begun_in_the_middle_goes_on_as_it_would_have(source, recipe):
    for change in ({"mixup": 0.5}, {"scales": (64, 96), "resolution": 96, "batch_size": 4}):
        changed = dataclasses.replace(recipe, **change)
        steps = steps_per_epoch(source, changed)
        whole = batches(training_dataset(source, changed, first_epoch=1))
        assert steps > 2
        rest = batches(training_dataset(source, changed, first_epoch=1, first_step=2))
        assert equal(whole[2:], rest)


def test_a_set_that_is_read_in_order_must_be_whole_and_fit(recipe, monkeypatch):
    source = sorted_source(2, 20, by_place=False)
    short = dataclasses.replace(source, sizes={"train": 41})
    with pytest.raises(ValueError, match="must have the 41 examples.*Received: 40"):
        training_dataset(short, recipe)
    monkeypatch.setattr(image_source, "HELD_BYTES", 1000)
    with pytest.raises(ValueError, match="must fit into memory.*more than 1000 bytes"):
        training_dataset(sorted_source(2, 20, by_place=False), recipe)


def test_images_stay_with_their_labels_and_are_preprocessed(source, recipe):
    for images, labels in batches(training_dataset(source, recipe)):
        assert images.shape == (8, 64, 64, 3) and labels.shape == (8, 4)
        grey = np.clip(60 * labels.argmax(-1), 0, 255).astype("float32")
        expected = preprocess_input(grey[:, None] * np.ones((8, 3), "float32"), recipe.model)
        np.testing.assert_allclose(images.mean((1, 2)), expected, atol=0.15)


def test_evaluation_sees_each_image_once_in_order(source, recipe):
    (images, labels), *rest = batches(evaluation_dataset(source, recipe))
    assert not rest and images.shape == (8, 64, 64, 3)
    np.testing.assert_array_equal(labels.argmax(-1), [0, 1, 2, 3, 0, 1, 2, 3])
    ((raw, _),) = batches(evaluation_dataset(source, recipe, preprocess=False))
    assert raw.min() >= 0 and raw.max() <= 255 and raw.max() > 100
    np.testing.assert_allclose(preprocess_input(raw, recipe.model), images, atol=1e-5)
    with pytest.raises(ValueError, match="Received: split='dev'"):
        evaluation_dataset(source, recipe, "dev")


def test_less_than_a_batch_is_refused(recipe):
    with pytest.raises(
        ValueError, match="take batch_size=1 or less. Received: 3 images, batch_size=8"
    ):
        steps_per_epoch(ImageSource("x", ("a",), {"train": 3}, None), recipe)


def test_batches_of_several_scales_hold_as_many_pixels(source, recipe):
    recipe = dataclasses.replace(recipe, scales=(64, 96, 128), epochs=30, resolution=96)
    assert recipe.scale_batch_sizes == {64: 18, 96: 8, 128: 4}
    steps = steps_per_epoch(source, recipe)
    assert steps == 3  # 32 images in batches of 10 on average
    everything = batches(training_dataset(source, recipe))
    assert len(everything) == 30 * steps
    sizes = [(len(images), *images.shape[1:]) for images, _ in everything]
    assert set(sizes) == {(18, 64, 64, 3), (8, 96, 96, 3), (4, 128, 128, 3)}
    counts = [sizes.count(size) for size in sorted(set(sizes))]
    assert min(counts) > 90 / 3 / 2  # each scale about equally often
    assert equal(everything[28 * steps :], batches(training_dataset(source, recipe, 28)))


def test_a_global_batch_is_shared_by_the_steps_that_accumulate(source, recipe):
    recipe = dataclasses.replace(recipe, accumulation_steps=4, epochs=1)
    assert steps_per_epoch(source, recipe) == 16
    assert [len(x) for x, _ in batches(training_dataset(source, recipe))] == [2] * 16
