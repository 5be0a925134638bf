"""What is taken from Keras' private API says what Keras' public API says."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_hybrid import keras_private


@pytest.fixture
def model():
    image = keras.Input((8, 8, 3), name="image")
    shared = layers.ReLU(name="shared")
    left = shared(layers.Conv2D(4, 1, name="left")(image))
    right = shared(layers.Conv2D(4, 1, name="right")(image) * 2)
    total = layers.Add(name="total")([left, right])
    return keras.Model(image, {"sum": total, "mean": ops.mean(total, (1, 2))})


def test_calls_come_in_order_with_what_they_take_and_give(model):
    calls = keras_private.calls(model)
    names = [call.operation.name for call in calls]
    assert sorted(names) == sorted(
        ["image", "left", "right", *2 * ["shared"], "total"]
        + names[-1:]
        + [name for name in names if name.startswith("multiply")]
    )
    known = set()
    for call in calls:
        assert {id(x) for x in call.inputs} <= known, "inputs before what is computed from them"
        known |= {id(x) for x in call.outputs}
    (total,) = (call for call in calls if call.operation.name == "total")
    (arguments,), options = total.args_and_kwargs
    assert [id(x) for x in arguments] == [id(x) for x in total.inputs] and options == {}
    assert keras_private.producer(total.outputs[0]) is total.operation
    assert keras_private.input_of(model.get_layer("left")) is model.input
    assert keras_private.last_output(model.get_layer("shared")) is total.inputs[1]
    assert keras_private.input_of(model.get_layer("total"), 1) is total.inputs[1]
    left = keras_private.output_of(model.get_layer("left"))
    assert keras_private.consumers(left) == [model.get_layer("shared")]
    assert [id(x) for x in keras_private.computed_from(total.inputs[0])] == [id(left)]


def test_structures_are_those_that_the_model_takes_and_returns(model):
    outputs = keras_private.outputs_structure(model)
    assert sorted(outputs) == sorted(model(np.zeros((1, 8, 8, 3)))) == ["mean", "sum"]
    assert keras_private.inputs_structure(model) is model.input
    assert keras_private.functional(model) is model


def test_a_sequential_model_has_a_graph_once_it_is_built():
    sequential = keras.Sequential([layers.Dense(2)])
    assert keras_private.functional(sequential) is None
    sequential.build((None, 3))
    assert [call.operation for call in keras_private.calls(sequential)][1:] == sequential.layers
    assert keras_private.outputs_structure(sequential).shape == (None, 2)


def test_a_subclassed_model_has_no_graph():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="functional model.*Received"):
        keras_private.calls(Own())


def test_layers_in_depth_are_found_in_models_and_layers(model):
    outer_input = keras.Input((8, 8, 3))
    wrapped = layers.TimeDistributed(layers.Dense(2, name="deep"))(
        ops.expand_dims(layers.Flatten()(model(outer_input)["sum"]), 1)
    )
    found = {
        layer.name for layer in keras_private.layers_in_depth(keras.Model(outer_input, wrapped))
    }
    assert {"left", "shared", "deep"} <= found


def test_moving_averages_are_those_of_the_trainable_variables(model):
    optimizer = keras.optimizers.SGD(use_ema=True, ema_momentum=0.5)
    optimizer.build(model.trainable_variables)
    for wrapped in (optimizer, keras.optimizers.LossScaleOptimizer(optimizer)):
        pairs = keras_private.moving_averages(wrapped)
        assert [id(x) for x, _ in pairs] == [id(x) for x in model.trainable_variables]
        assert [x.shape for x, _ in pairs] == [x.shape for _, x in pairs]


def test_reduction_axes_make_a_norm_work_that_was_never_built():
    built = layers.BatchNormalization()
    built.build((None, 4, 4, 3))
    other = layers.BatchNormalization()
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        setattr(other, name, getattr(built, name))
    other.built = True
    keras_private.share_reduction_axes(built, other)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(other(x, training=True), built(x, training=True))
