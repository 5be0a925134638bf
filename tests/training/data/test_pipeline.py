"""Pipelines: repeatable under a seed, resumable at any epoch, every image once."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_hybrid import preprocess_input
from keras_hybrid.training.data.pipeline import (
    evaluation_dataset,
    steps_per_epoch,
    training_dataset,
)
from keras_hybrid.training.data.sources import ImageSource


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


def test_a_small_buffer_shuffles_runs_of_its_size(source, recipe):
    plain = dataclasses.replace(
        recipe, epochs=1, shuffle_buffer=4, crop_area=(1.0, 1.0), flip_probability=0
    )
    labels = np.concatenate([y.argmax(-1) for _, y in batches(training_dataset(source, plain))])
    # The source's labels go 0 1 2 3 0 1 2 3: each run of four holds every class.
    assert all(sorted(run) == [0, 1, 2, 3] for run in labels.reshape(8, 4))
    assert not all(list(run) == [0, 1, 2, 3] for run in labels.reshape(8, 4))


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
    with pytest.raises(ValueError, match="3 images, batch_size=8"):
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
