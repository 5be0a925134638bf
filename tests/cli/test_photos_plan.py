"""What a folder of photos is trained with, and why."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest

from keras_hybrid.workflows.photos import StopWhenDone
from keras_hybrid.workflows.photos_classifier import softmax_regression
from keras_hybrid.workflows.photos_plan import (
    BALANCED_WITHIN,
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    STEPS_PER_EPOCH,
    Start,
    Wishes,
    balanced,
    plan_photos,
    with_epochs,
)

FRESH = Start(None, "offline")
PUBLISHED = Start("imagenet", "there")
OWN = Start("runs/a", "your own", "MobileViTXXS", 128)


def plan(counts, start=FRESH, sides=(300,), accelerator=False, **wishes):
    return plan_photos(counts, sides, start, Wishes(**wishes), accelerator)


@pytest.mark.parametrize("photos", [2, 6, 32, 100, 1000, 40_000])
@pytest.mark.parametrize("start", [FRESH, PUBLISHED, OWN])
def test_any_size_of_a_set_gives_a_recipe_that_can_be_trained(photos, start):
    found = plan([photos] * 5, start)
    recipe = found.recipe
    steps = sum(found.counts) // recipe.batch_size
    assert steps >= min(STEPS_PER_EPOCH, 12)
    assert FEWEST_EPOCHS <= recipe.epochs <= MOST_EPOCHS
    assert 0 < recipe.warmup_steps < steps * recipe.epochs / 2
    assert recipe.batch_size <= sum(found.counts)
    averaged = steps * recipe.epochs * (1 - (recipe.ema_momentum or 0)) > 3
    assert recipe.ema_momentum is None or averaged


def test_every_number_has_a_reason():
    found = plan([40, 40, 90], PUBLISHED)
    assert {"start", "model", "resolution", "batch", "epochs", "warm-up", "learning rate"} <= {
        choice.name for choice in found.choices
    }
    assert all(choice.reason and choice.value for choice in found.choices)
    assert found.describe().count("\n") == len(found.choices) - 1


def test_wishes_are_kept():
    found = plan(
        [50] * 4, model="MobileViTXS", resolution=160, batch_size=12, epochs=3, learning_rate=1e-4
    )
    recipe = found.recipe
    assert (recipe.model, recipe.resolution, recipe.batch_size) == ("MobileViTXS", 160, 12)
    assert (recipe.epochs, recipe.learning_rate) == (3, 1e-4)


def test_what_training_starts_from_decides_model_and_resolution():
    assert plan([50] * 4, OWN).recipe.model == "MobileViTXXS"
    assert plan([50] * 4, OWN).recipe.resolution == 128
    assert plan([50] * 4, PUBLISHED).recipe.resolution == 224
    assert plan([50] * 4, PUBLISHED).recipe.layer_decay is not None
    assert plan([50] * 4, FRESH).recipe.resolution < 224
    assert plan([50] * 4, FRESH, accelerator=True).recipe.resolution == 224


def test_small_photos_are_not_enlarged_much():
    assert plan([50] * 4, PUBLISHED, sides=[40, 100, 120, 500]).recipe.resolution == 128


def test_small_classes_are_repeated_and_no_more_than_ten_times():
    assert balanced([100, 90]) == ([100, 90], None)
    shown, choice = balanced([100, 40, 3])
    assert shown == [100, 100, 30] and "3" in choice.reason
    assert max(shown) <= BALANCED_WITHIN * 100


def test_fewer_epochs_shorten_the_warm_up():
    found = with_epochs(plan([50] * 4), 1, "the time")
    assert found.recipe.epochs == 1
    assert found.recipe.warmup_steps < sum(found.counts) // found.recipe.batch_size
    assert "the time" in found.describe()


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="MobileViTXXS"):
        plan([5, 5], model="MobileViTXX")


def test_softmax_regression_separates_what_can_be_separated():
    random = np.random.default_rng(0)
    labels = np.eye(3)[random.integers(0, 3, 90)]
    features = 50 + 20 * (labels @ random.normal(size=(3, 16))) + random.normal(size=(90, 16))
    kernel, bias = softmax_regression(features.astype("float32"), labels)
    right = (features @ kernel + bias).argmax(1) == labels.argmax(1)
    assert kernel.dtype == bias.dtype == np.float32
    assert right.mean() == 1


def test_softmax_regression_counts_classes_alike():
    """Of features that say nothing, a large class is not more probable."""
    labels = np.eye(2)[[0] * 90 + [1] * 10]
    kernel, bias = softmax_regression(np.ones((100, 4), "float32"), labels)
    scores = np.ones(4) @ kernel + bias
    assert abs(scores[0] - scores[1]) < 0.05


def test_choices_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan([5, 5]).patience = 3


@pytest.mark.parametrize("epochs", [12, 30, 50])
def test_training_does_not_stop_before_the_learning_rate_has_fallen(epochs):
    """However early the loss stands still; in 12 epochs of a plan as in 50."""
    found = plan([50] * 4, epochs=epochs)
    stopper = StopWhenDone(found.patience, epochs // 2, None, io.StringIO())
    stopper.set_params({"epochs": epochs})
    stopper.set_model(SimpleNamespace(stop_training=False))
    for epoch in range(epochs):
        stopper.on_epoch_begin(epoch)
        stopper.on_epoch_end(epoch, {"val_loss": 1.0})
        if stopper.model.stop_training:
            break
    assert 0.7 * epochs < epoch + 1 < epochs


def test_photos_are_seen_whole():
    found = plan([50] * 4)
    assert (found.recipe.to_square, found.recipe.crop_fraction) == ("stretch", 1.0)
    assert "whole photos" in found.describe()
