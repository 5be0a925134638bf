"""Fused batch norms train as Keras' do, on the model's own variables."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid.training.run.fused_norms import FusedBatchNormalization, training_norms


def network(**options):
    image = keras.Input((6, 5, 4))
    x = keras.layers.Conv2D(3, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-5, name="norm", **options)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Activation("silu")(x))
    return keras.Model(image, keras.layers.BatchNormalization(name="flat_norm")(x))


def step(model, images):
    """Output, gradients and statistics of a training step."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = model(images, training=True)
        loss = tf.reduce_sum(outputs * tf.constant([1.0, -2.0, 0.5]) * outputs)
    gradients = tape.gradient(loss, [images, *(v.value for v in model.trainable_variables)])
    return [outputs, *gradients, *(v.value for v in model.non_trainable_variables)]


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
def test_a_step_is_that_of_keras(options):
    model = network(**options)
    initial = [
        value + np.random.default_rng(i).uniform(0.1, 0.5, value.shape).astype("float32")
        for i, value in enumerate(model.get_weights())
    ]
    model.set_weights(initial)
    images = tf.random.normal([7, 6, 5, 4]) * 3 + 1
    expected = [tensor.numpy() for tensor in step(model, images)]
    model.set_weights(initial)
    fused = training_norms(model)
    assert type(fused.get_layer("norm")) is FusedBatchNormalization
    assert type(fused.get_layer("flat_norm")) is keras.layers.BatchNormalization
    for found, wanted in zip(step(fused, images), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=2e-5)
    # In evaluation, too; and what was trained is the model itself, with Keras' layers.
    np.testing.assert_allclose(fused(images), model(images), rtol=1e-5, atol=1e-5)
    assert [id(v) for v in fused.variables] == [id(v) for v in model.variables]
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in model.layers)
    assert not np.allclose(model.get_layer("norm").moving_variance, initial[-5], atol=1e-3)


def test_frozen_norms_keep_their_statistics():
    model = network()
    model.get_layer("norm").trainable = False
    before = model.get_layer("norm").moving_mean.numpy()
    fused = training_norms(model)
    assert len(fused.trainable_variables) == len(model.trainable_variables) == 4
    fused(tf.random.normal([4, 6, 5, 4]) + 3, training=True)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, before)


def test_synchronised_norms_stay():
    fused = training_norms(network(synchronized=True))
    assert type(fused.get_layer("norm")) is keras.layers.BatchNormalization
