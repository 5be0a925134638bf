"""Several processes read together what one would read alone."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid.training.data.pipeline import (
    evaluation_dataset,
    steps_per_epoch,
    training_dataset,
)
from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.data.sources import open_source


def shares(processes, devices=None):
    return [Share(index, processes, devices or processes) for index in range(processes)]


def numpy_batches(dataset):
    return [[part.numpy() for part in batch] for batch in dataset]


@pytest.mark.large
@pytest.mark.parametrize(
    "change",
    [
        {"mixup": 0.8, "cutmix": 1.0, "erase_probability": 0.25},
        {"accumulation_steps": 2},
        {"scales": (64, 96), "resolution": 96},
    ],
    ids=str,
)
def test_the_parts_of_two_processes_are_the_batches_of_one(source, recipe, change):
    recipe = dataclasses.replace(recipe, epochs=2, **change)
    alone = numpy_batches(training_dataset(source, recipe, share=Share(devices=2)))
    first, second = (
        numpy_batches(training_dataset(source, recipe, share=share)) for share in shares(2)
    )
    assert len(alone) == len(first) == len(second) > 3
    for batch, *parts in zip(alone, first, second, strict=True):
        assert len(parts[0][0]) == len(parts[1][0]) == len(batch[0]) // 2
        for whole, *halves in zip(batch, *parts, strict=True):
            np.testing.assert_array_equal(np.concatenate(halves), whole)
    resumed = numpy_batches(training_dataset(source, recipe, 1, shares(2)[1]))
    for now, before in zip(resumed, second[len(second) // 2 :], strict=True):
        np.testing.assert_array_equal(now[0], before[0])


def test_batches_of_every_scale_divide_by_the_devices(source, recipe):
    recipe = dataclasses.replace(recipe, scales=(64, 96, 128), resolution=96, epochs=6)
    assert recipe.scale_batch_sizes == {64: 18, 96: 8, 128: 4}
    dataset = training_dataset(source, recipe, share=Share(devices=4))
    assert {len(images) for images, _ in dataset} == {16, 8, 4}


def test_a_batch_that_devices_cannot_share_is_refused(source, recipe):
    with pytest.raises(ValueError, match="Received: 8 images a step, 3 devices"):
        steps_per_epoch(source, recipe, Share(devices=3))
    recipe = dataclasses.replace(recipe, accumulation_steps=4)
    with pytest.raises(ValueError, match="Received: 2 images a step, 4 devices"):
        training_dataset(source, recipe, share=Share(devices=4))


def test_evaluation_on_several_devices_sees_each_image_once_and_weighs_the_filling_away(
    source, recipe
):
    """The split's 32 images in batches of 12: the third batch holds 4 that fill it up."""
    recipe = dataclasses.replace(recipe, batch_size=12)
    alone = numpy_batches(evaluation_dataset(source, recipe, "train"))
    parts = [
        numpy_batches(evaluation_dataset(source, recipe, "train", share=share))
        for share in shares(2, devices=4)
    ]
    images, labels, weights = (
        np.concatenate(
            [np.concatenate([first[i], second[i]]) for first, second in zip(*parts, strict=True)]
        )
        for i in range(3)
    )
    assert all(len(batch[0]) == 6 for part in parts for batch in part)
    assert len(weights) == 36 and (weights > 0).sum() == 32
    for found, which in ((images, 0), (labels, 1)):
        expected = np.concatenate([batch[which] for batch in alone])
        np.testing.assert_array_equal(found[weights > 0], expected)

    image = keras.Input((64, 64, 3))
    logits = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(image))
    model = keras.Model(image, logits)
    model.compile(
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    expected = model.evaluate(evaluation_dataset(source, recipe, "train"), verbose=0)
    padded = evaluation_dataset(source, recipe, "train", share=Share(devices=4))
    np.testing.assert_allclose(model.evaluate(padded, verbose=0), expected, rtol=1e-5)


def bytes_read():
    """By read() of all threads of this process, so far."""
    with open("/proc/self/io", encoding="ascii") as file:
        return int(file.readline().removeprefix("rchar: "))


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel does not count reads")
def test_a_process_reads_the_files_of_its_share_alone(tmp_path, recipe):
    random = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "test" / label).mkdir(parents=True)
        for index in range(32):
            image = random.integers(0, 256, (64, 64, 3), "uint8")
            path = tmp_path / "train" / label / f"{index}.png"
            path.write_bytes(tf.io.encode_png(image).numpy())
        (tmp_path / "test" / label / "0.png").write_bytes(path.read_bytes())
    source = open_source(f"folder:{tmp_path}")
    recipe = dataclasses.replace(recipe, epochs=1)
    whole = sum(path.stat().st_size for path in (tmp_path / "train").rglob("*.png"))

    def read_by(share):
        start = bytes_read()
        for _ in training_dataset(source, recipe, share=share):
            pass
        return (bytes_read() - start) / whole

    assert read_by(ALONE) == pytest.approx(1, rel=0.05)
    for index in (0, 1):
        assert read_by(Share(index, 2, 2)) == pytest.approx(0.5, rel=0.05)
