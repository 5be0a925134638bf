"""Learning rates, weight decay and moving averages against their closed forms."""

import dataclasses
import math

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.keras_private import moving_averages
from keras_hybrid.training.optimization.averaging import first_weights_share
from keras_hybrid.training.optimization.schedules import (
    is_decayed,
    learning_rate_schedule,
    make_optimizer,
)
from keras_hybrid.training.recipe.recipe import load_recipe


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


def test_timms_schedule_by_epoch_with_floor_and_cooldown(root):
    """Mobile-Former's: timm 0.3.4 with 3 epochs of warm-up from 1e-4, floor 1e-5, cool-down 10."""
    recipe = load_recipe(root / "recipes" / "imagenet" / "mobile_former.py", "294M")
    steps = 1251
    schedule = learning_rate_schedule(recipe, steps)
    for epoch in (0, 1, 2, 3, 10, 225, 440, 449, 450, 459):
        if epoch < 3:
            expected = 1e-4 + epoch * (1e-3 - 1e-4) / 3
        else:
            share = min(epoch / 450, 1)
            expected = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * share)) / 2
        for step in (0, steps // 2, steps - 1):
            found = float(schedule(epoch * steps + step))
            assert found == pytest.approx(expected, rel=1e-4), (epoch, step)
    mobilevit = load_recipe(root / "recipes" / "imagenet" / "mobilevit.py", "S")
    schedule = learning_rate_schedule(mobilevit, steps)
    assert float(schedule(1500)) == pytest.approx((2e-3 + 2e-4) / 2, rel=1e-4)  # within an epoch
    assert float(schedule(100 * steps)) == float(schedule(101 * steps - 1))
    again = type(schedule).from_config(schedule.get_config())
    assert float(again(100 * steps)) == float(schedule(100 * steps))


def test_warmup_can_be_given_in_steps_and_must_be_shorter_than_the_run(recipe):
    recipe = dataclasses.replace(recipe, warmup_steps=5)
    assert float(learning_rate_schedule(recipe, 4)(5)) == pytest.approx(1e-3)
    assert float(learning_rate_schedule(recipe, 4)(4)) == pytest.approx(0.8e-3)
    assert float(learning_rate_schedule(dataclasses.replace(recipe, warmup_steps=0), 4)(0)) == (
        pytest.approx(1e-3)
    )
    with pytest.raises(ValueError, match="12 steps of warm-up, 0 of cool-down, 12 steps in all"):
        learning_rate_schedule(dataclasses.replace(recipe, warmup_steps=12), 4)


@pytest.mark.parametrize("name", ["MobileFormer26M", "MobileViTXXS", "IFormerT"])
def test_kernels_decay_and_what_else_the_recipe_names(name):
    options = {"layer_scale": 1e-6} if name == "IFormerT" else {}
    model = keras_hybrid.build_model(name, weights=None, input_shape=(64, 64, 3), **options)

    def decayed(*kinds):
        return {v.path for v in model.trainable_variables if is_decayed(v, kinds)}

    names = {v.path: v.name for v in model.trainable_variables}
    kernels = {path for path, name in names.items() if name == "kernel"}
    tokens = {path for path, name in names.items() if name == "tokens"}
    scales = {path for path in names if "layer_scale" in path}
    assert decayed("kernels") == kernels
    assert decayed("kernels", "tokens") == kernels | tokens
    assert decayed("kernels", "layer_scales") == kernels | scales
    assert decayed("all") == set(names)
    assert bool(tokens) == (name == "MobileFormer26M") and bool(scales) == (name == "IFormerT")


@pytest.mark.parametrize("size", [1e-2, 1e-6, 1e-8])
def test_adamw_steps_as_its_paper_has_it_however_small_the_gradients(recipe, size):
    """Epsilon 1e-8 is added to the root of the corrected moment."""
    recipe = dataclasses.replace(recipe, weight_decay=0.1, learning_rate=0.01, epochs=10**6)
    model, layer = one_layer()
    optimizer = make_optimizer(recipe, model, 10)
    weight = layer.kernel.numpy().astype("float64")
    first, second = np.zeros((3, 2)), np.zeros((3, 2))
    rng = np.random.default_rng(0)
    for step in range(1, 9):
        gradient = size * (1 + 0.5 * rng.normal(size=(3, 2)))
        optimizer.apply([gradient, np.zeros(2)], layer.variables)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        corrected = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        weight -= 0.01 * (0.1 * weight + first / (1 - 0.9**step) / corrected)
    np.testing.assert_allclose(layer.kernel.numpy(), weight, rtol=2e-4)
    assert optimizer.epsilon == 1e-8


def test_a_variable_adds_few_operators_to_the_step(recipe, require):
    """Tracing them took as long as tracing the network: what variables share is computed once."""
    require(backend="tensorflow")
    import tensorflow as tf

    def count_operators(layers):
        image = x = keras.Input((3,))
        for _ in range(layers):
            x = keras.layers.Dense(3)(x)
        model = keras.Model(image, x)
        recipe_of_it = dataclasses.replace(recipe, weight_decay=0.05, clip_norm=None)
        optimizer = make_optimizer(recipe_of_it, model, 10)
        gradients = [tf.ones(variable.shape) for variable in model.trainable_variables]
        step = tf.function(lambda *grads: optimizer.apply(list(grads)))
        return len(step.get_concrete_function(*gradients).graph.get_operations())

    fixed, both = count_operators(1), count_operators(11)
    a_layer = (both - fixed) / 10
    assert a_layer <= 20, "a kernel that decays and a bias that does not"


def test_decay_shrinks_kernels_by_learning_rate_times_decay(recipe):
    recipe = dataclasses.replace(recipe, weight_decay=0.5, learning_rate=0.1)
    model, layer = one_layer()
    layer.bias.assign([1.0, 1.0])
    kernel = layer.kernel.numpy()
    make_optimizer(recipe, model, 10).apply([np.zeros((3, 2)), np.zeros(2)], layer.variables)
    np.testing.assert_allclose(layer.kernel.numpy(), kernel * (1 - 0.1 * 0.5), rtol=1e-5)
    np.testing.assert_array_equal(layer.bias.numpy(), [1.0, 1.0])


@pytest.mark.parametrize("warmup", [False, True])
def test_the_moving_average_is_the_closed_form(recipe, warmup):
    recipe = dataclasses.replace(recipe, ema_momentum=0.9, ema_warmup=warmup)
    model, layer = one_layer()
    optimizer = make_optimizer(recipe, model, 10)
    rng = np.random.default_rng(0)
    expected = None
    for update in range(7):
        optimizer.apply([rng.normal(size=(3, 2)), rng.normal(size=2)], layer.variables)
        momentum = min(0.9, (1 + update) / (10 + update)) if warmup else 0.9
        kernel = layer.kernel.numpy()
        # The average starts from the weights after the first step.
        expected = kernel if expected is None else momentum * expected + (1 - momentum) * kernel
    last = layer.kernel.numpy()
    optimizer.finalize_variable_values(layer.variables)
    np.testing.assert_array_equal(layer.kernel.numpy(), last)  # a later `fit` goes on from there
    averages = {weight.path: average for weight, average in moving_averages(optimizer)}
    np.testing.assert_allclose(averages[layer.kernel.path].numpy(), expected, rtol=1e-4)
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.ema_warmup == warmup


def test_a_warm_average_leaves_the_first_weights_within_a_few_updates(recipe):
    """The published momentum over the 24 to 90 updates that a few hundred photos make."""
    recipe = dataclasses.replace(recipe, ema_momentum=0.9995)
    cold = dataclasses.replace(recipe, ema_warmup=False)
    assert first_weights_share(recipe, 24) < 1e-6
    assert first_weights_share(cold, 24) == pytest.approx(0.9995**23)
    assert first_weights_share(cold, 10_000) < 0.01


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


@pytest.mark.large
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
