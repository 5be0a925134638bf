"""Learning rates, weight decay and moving averages against their closed forms."""

import dataclasses
import math

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.training.optimization.schedules import (
    is_decayed,
    learning_rate_schedule,
    make_optimizer,
)


def one_layer():
    layer = keras.layers.Dense(2, name="fc")
    image = keras.Input((3,))
    return keras.Model(image, layer(image)), layer


def test_the_learning_rate_warms_up_and_falls_as_a_cosine(recipe):
    recipe = dataclasses.replace(
        recipe,
        epochs=10,
        learning_rate=4e-3,
        warmup_epochs=2,
        warmup_learning_rate=1e-6,
        final_learning_rate=1e-5,
        batch_size=256,
        reference_batch_size=1024,
    )
    schedule = learning_rate_schedule(recipe, 50)
    for step in (0, 1, 37, 99, 100, 101, 300, 499, 500, 600):
        if step < 100:
            expected = 1e-6 + (4e-3 - 1e-6) * step / 100
        else:
            share = min((step - 100) / 400, 1)
            expected = 1e-5 + (4e-3 - 1e-5) * (1 + math.cos(math.pi * share)) / 2
        assert float(schedule(step)) == pytest.approx(expected / 4, rel=1e-4, abs=1e-9), step


def test_warmup_can_be_given_in_steps_and_must_be_shorter_than_the_run(recipe):
    recipe = dataclasses.replace(recipe, warmup_steps=5)
    assert float(learning_rate_schedule(recipe, 4)(5)) == pytest.approx(1e-3)
    assert float(learning_rate_schedule(recipe, 4)(4)) == pytest.approx(0.8e-3)
    assert float(learning_rate_schedule(dataclasses.replace(recipe, warmup_steps=0), 4)(0)) == (
        pytest.approx(1e-3)
    )
    with pytest.raises(ValueError, match="12 steps of warm-up, 12 steps in all"):
        learning_rate_schedule(dataclasses.replace(recipe, warmup_steps=12), 4)


@pytest.mark.parametrize("name", ["MobileFormer26M", "MobileViTXXS", "IFormerT"])
def test_kernels_decay_and_nothing_else(name):
    options = {"layer_scale": 1e-6} if name == "IFormerT" else {}
    model = keras_hybrid.build_model(name, weights=None, input_shape=(64, 64, 3), **options)
    decayed = {variable.name for variable in model.trainable_variables if is_decayed(variable)}
    others = {variable.name for variable in model.trainable_variables if not is_decayed(variable)}
    assert decayed == {"kernel"}
    assert {"bias", "gamma", "beta"} <= others <= {"bias", "gamma", "beta", "tokens"}
    assert ("tokens" in others) == (name == "MobileFormer26M")


def test_decay_shrinks_kernels_by_learning_rate_times_decay(recipe):
    recipe = dataclasses.replace(recipe, weight_decay=0.5, learning_rate=0.1)
    model, layer = one_layer()
    layer.bias.assign([1.0, 1.0])
    kernel = layer.kernel.numpy()
    make_optimizer(recipe, model, 10).apply([np.zeros((3, 2)), np.zeros(2)], layer.variables)
    np.testing.assert_allclose(layer.kernel.numpy(), kernel * (1 - 0.1 * 0.5), rtol=1e-5)
    np.testing.assert_array_equal(layer.bias.numpy(), [1.0, 1.0])


def test_the_moving_average_is_the_closed_form(recipe):
    recipe = dataclasses.replace(recipe, ema_momentum=0.9)
    model, layer = one_layer()
    optimizer = make_optimizer(recipe, model, 10)
    rng = np.random.default_rng(0)
    history = [layer.kernel.numpy()]
    for _ in range(7):
        optimizer.apply([rng.normal(size=(3, 2)), rng.normal(size=2)], layer.variables)
        history.append(layer.kernel.numpy())
    # The average starts from the weights after the first step.
    expected = 0.9**6 * history[1]
    expected += sum(0.1 * 0.9 ** (7 - step) * history[step] for step in range(2, 8))
    optimizer.finalize_variable_values(layer.variables)
    np.testing.assert_allclose(layer.kernel.numpy(), expected, rtol=1e-4)


def test_gradients_are_clipped_by_their_global_norm(recipe):
    updates = []
    for scale in (1.0, 100.0):
        model, layer = one_layer()
        layer.kernel.assign(np.ones((3, 2)))
        optimizer = make_optimizer(dataclasses.replace(recipe, clip_norm=0.01), model, 10)
        for sign in (1, 0.1):  # AdamW's first step does not see the scale; its second does
            gradient = [scale * sign * np.ones((3, 2)), scale * sign * np.ones(2)]
            optimizer.apply(gradient, layer.variables)
        updates.append(layer.kernel.numpy())
    np.testing.assert_allclose(updates[0], updates[1], rtol=1e-5)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_accumulated_batches_step_as_the_whole_batch(recipe, clip_norm):
    """64 images at once, and 4 x 16: with batch norm frozen the weights are equal."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 64, 64, 3)).astype("float32")
    y = np.eye(4, dtype="float32")[rng.integers(0, 4, 64)]
    results = []
    for steps in (1, 4):
        keras.utils.set_random_seed(3)
        model = keras_hybrid.MobileViTXXS(
            weights=None,
            input_shape=(64, 64, 3),
            classes=4,
            classifier_activation=None,
            dropout_rate=0.0,
        )
        start = model.get_layer("stem_conv").kernel.numpy()
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        changed = dataclasses.replace(
            recipe,
            batch_size=64,
            accumulation_steps=steps,
            clip_norm=clip_norm,
            weight_decay=0.1,
            ema_momentum=0.9,
        )
        model.compile(
            make_optimizer(changed, model, 10 * steps),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            run_eagerly=True,
        )
        for part in range(steps):
            model.train_on_batch(x[part::steps], y[part::steps])
        assert int(model.optimizer.iterations) == 1
        results.append([variable.numpy() for variable in model.trainable_variables])
    assert np.abs(results[0][0] - start).max() > 5e-4
    # AdamW's first step is the learning rate times a sign: it is compared through its moments,
    # where gradients that are all rounding would turn either way.
    close = [np.mean(np.abs(one - four) < 1e-5) for one, four in zip(*results, strict=True)]
    assert np.mean(close) > 0.99
