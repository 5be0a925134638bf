"""Images that are finished on the device: what travels, and that the network sees the same."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_training import make_tiny_network

from keras_hybrid.training.augmentation.finishing import finish_images, finishes_on_device
from keras_hybrid.training.data.pipeline import training_dataset
from keras_hybrid.training.run.dry_run import dry_run
from keras_hybrid.training.run.run import compile_for_training, training_view
from keras_hybrid.training.tasks.classification import Classification

# Half an 8-bit step, in each of iFormer's and Mobile-Former's normalised channels, at most.
HALF_A_STEP = 0.5 / (255 * 0.224) + 1e-5

PROGRAM = """
import json, sys
import numpy as np
from keras_hybrid.training.augmentation.finishing import finish_images
with np.load(sys.argv[1]) as arrays:
    found = finish_images({name: arrays[name] for name in arrays.files}, "MobileFormer26M")
np.save(sys.argv[2], np.asarray(found))
"""


@pytest.fixture
def mixed(recipe):
    return dataclasses.replace(
        recipe, mixup=0.8, cutmix=1.0, randaugment_magnitude=5.0, finish_on="device"
    )


def test_bytes_travel_and_the_network_sees_what_the_pipeline_would_give(source, mixed):
    there = training_dataset(source, mixed)
    images = there.element_spec[0]
    assert images["image"].dtype == tf.uint8
    assert sum(spec.dtype.size * spec.shape[1:].num_elements() for spec in images.values()) < 12400
    kinds = set()
    here = training_dataset(source, dataclasses.replace(mixed, finish_on="host"))
    for (drawn, labels), (finished, wanted) in zip(there, here, strict=True):
        np.testing.assert_array_equal(labels, wanted)
        found = finish_images(drawn, mixed.model)
        np.testing.assert_allclose(found, finished, atol=HALF_A_STEP)
        kinds.add(bool(np.any(drawn["pasted"])))
    assert kinds == {True, False}  # CutMix and mixup


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_box_is_erased_by_noise_of_its_own(source, recipe, backend, backends, require, tmp_path):
    require(module=backend)
    recipe = dataclasses.replace(recipe, erase_probability=1.0, batch_size=32, epochs=1)
    plain = dataclasses.replace(recipe, erase_probability=0.0, finish_on="host")
    drawn, _ = next(training_dataset(source, dataclasses.replace(recipe, finish_on="device"))
                    .as_numpy_iterator())  # fmt: skip
    whole, _ = next(training_dataset(source, plain).as_numpy_iterator())
    host, _ = next(
        training_dataset(source, dataclasses.replace(recipe, finish_on="host")).as_numpy_iterator()
    )
    (tmp_path / "finish.py").write_text(PROGRAM)
    np.savez(tmp_path / "drawn.npz", **drawn)
    files = (tmp_path / "drawn.npz", tmp_path / "found.npy")
    if backend == "tensorflow":
        found = np.asarray(finish_images(drawn, recipe.model))
    else:
        backends.run(backend, tmp_path / "finish.py", *files)
        found = np.load(files[1])
    erased = np.abs(host - whole).max(-1) > 1e-6  # where the pipeline itself erases
    assert 0.02 < erased.mean() < 0.4
    np.testing.assert_allclose(found[~erased], whole[~erased], atol=HALF_A_STEP)
    noise = found[erased]
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    images, rows, columns = np.nonzero(erased)
    pixel = found[images, rows, columns]
    both = erased[0] & erased[1]
    assert both.any() and not np.array_equal(found[0][both], found[1][both])
    assert len(np.unique(pixel)) > 0.99 * pixel.size


def test_finished_images_stay_as_they_are(recipe):
    images = np.ones((2, 8, 8, 3), "float32")
    assert finish_images(images, recipe.model) is images


def test_the_step_learns_from_unfinished_images_and_evaluates_finished_ones(source, mixed):
    losses = {}
    for where in ("host", "device"):
        recipe = dataclasses.replace(mixed, finish_on=where, drop_path_rate=0.0)
        keras.utils.set_random_seed(3)
        view, _ = training_view(make_tiny_network(recipe, 4, random=False), recipe)
        compile_for_training(view, recipe, 4)
        fitted = view.fit(training_dataset(source, recipe), steps_per_epoch=4, verbose=0)
        images = np.zeros((4, 64, 64, 3), "float32")
        score = view.evaluate(images, np.eye(4, dtype="float32"), verbose=0, return_dict=True)
        losses[where] = [*fitted.history["loss"], score["loss"]]
    np.testing.assert_allclose(losses["device"], losses["host"], rtol=1e-3)


def test_a_dry_run_says_how_images_travel(source, mixed, monkeypatch):
    monkeypatch.setattr(Classification, "sized_network", lambda *_: make_tiny_network(mixed, 4))
    here = dry_run(dataclasses.replace(mixed, finish_on="host"), source)
    there = dry_run(mixed, source)
    said = "one batch: images (8, 64, 64, 3) from -"
    assert said in there and said in here
    assert "which travel as 8-bit pixels" in there and "8-bit" not in here


def test_pairs_are_never_parted(mixed):
    assert finishes_on_device(mixed, [8], 2)
    with pytest.raises(ValueError, match="Images are mixed in pairs.*finish_on='device'.*\\[3\\]"):
        finishes_on_device(mixed, [6], 2)
    with pytest.raises(ValueError, match="mixing_group=1"):
        finishes_on_device(dataclasses.replace(mixed, mixing_group=1), [8], 1)
    unmixed = dataclasses.replace(mixed, mixup=0.0, cutmix=0.0)
    assert finishes_on_device(unmixed, [3], 1)  # nothing is mixed


def test_without_a_gpu_the_pipeline_finishes(monkeypatch, mixed):
    left = dataclasses.replace(mixed, finish_on=None)
    assert not finishes_on_device(left, [8], 1)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert finishes_on_device(left, [8], 1)
    assert not finishes_on_device(left, [7], 1)  # pairs would be parted: as before, then


def test_the_word_on_the_backend(monkeypatch, mixed):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="with TensorFlow and JAX"):
        finishes_on_device(mixed, [8], 1)
    assert not finishes_on_device(dataclasses.replace(mixed, finish_on=None), [8], 1)
    assert json.dumps(mixed.finish_on) == '"device"'
