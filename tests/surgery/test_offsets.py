"""An offset leaves the layer that adds it for what comes after, or nothing changes at all."""

import keras
import pytest
from keras import layers

from keras_hybrid import layers as own
from keras_hybrid.surgery.offsets import move_offset

SOURCE = "source"


def move_bias(model):
    """Moves the bias of the layer called `SOURCE`."""
    (step,) = (step for step in model.steps if step.name == SOURCE)
    if move_offset(model, step.output, step.weight("bias")):
        del step.edit().weights["bias"]
        step.config["use_bias"] = False


@pytest.fixture
def moved(check_edit):
    """Whether the bias of 4 channels that `read` gets can be moved; the model computes the same."""

    def run(read):
        x = keras.Input((8, 8, 4))
        model = keras.Model(x, read(x, layers.Conv2D(4, 1, name=SOURCE)(x)))
        return not check_edit(move_bias, model).get_layer(SOURCE).use_bias

    return run


def tokens(x, number=3, channels=4):
    return own.GlobalTokens(number, channels)(x)


def attention(query, key, value):
    return own.DotProductAttention(2)([query, key, value])


def with_a_layer_called_twice(x, y):
    dense = layers.Dense(4)
    return [dense(y), dense(x)]


@pytest.mark.parametrize(
    "read",
    [
        lambda x, y: layers.Dense(3)(y),
        lambda x, y: layers.Conv2D(3, 1, use_bias=False)(y),
        lambda x, y: layers.Conv2D(3, 1, strides=2)(y),
        lambda x, y: own.GroupedConv2D(3, 1)(y),
        lambda x, y: attention(tokens(x), y, x),
        lambda x, y: layers.Dense(3)(attention(tokens(x), x, y)),
        lambda x, y: layers.Dense(3)(attention(tokens(x), y, y)),
        lambda x, y: layers.Add()([y, layers.Dense(4)(x)]),
        lambda x, y: layers.Add()([layers.Activation("relu")(x), layers.Dense(4)(x), y]),
        lambda x, y: layers.Add()([y, layers.Dense(4)(y)]),
        lambda x, y: layers.Conv2D(3, 1)(layers.Concatenate()([x[..., :2], y, x])),
        lambda x, y: layers.Conv2D(3, 1)(layers.Concatenate(axis=3)([x, y])),
        lambda x, y: layers.Dense(3)(own.SelectToken(1)(attention(tokens(x), x, y))),
        lambda x, y: [layers.Dense(3)(y), layers.Dense(2)(y), layers.Dense(1)(y)],
        with_a_layer_called_twice,
    ],
)
def test_an_offset_goes_into_what_comes_after(moved, read):
    assert moved(read)


def refused(x, y, other):
    """Two readers that can take an offset around one that cannot."""
    return [layers.Dense(3)(y), *keras.tree.flatten(other), layers.Dense(2)(y)]


def with_another_reader(x, y):
    branch = layers.Dense(4)(x)
    return [layers.Add()([y, branch]), branch]


@pytest.mark.parametrize(
    "read",
    [
        lambda x, y: y,
        lambda x, y: attention(y, x, layers.Dense(4)(y)),
        lambda x, y: attention(y, y, y),
        lambda x, y: attention(tokens(x), x, y),
        lambda x, y: layers.Activation("relu")(y),
        lambda x, y: layers.Dense(3, activation="relu")(y),
        lambda x, y: layers.Conv2D(3, 3, padding="same")(y),
        lambda x, y: own.GroupedConv2D(4, 1, groups=2)(y),
        lambda x, y: layers.DepthwiseConv2D(1)(y),
        lambda x, y: layers.Add()([y, layers.Dense(1)(x)]),
        lambda x, y: layers.Add()([y, layers.Dense(4, activation="relu")(x)]),
        lambda x, y: layers.Add()([y, y]),
        lambda x, y: layers.Dense(3)(layers.Concatenate()([y, y])),
        lambda x, y: layers.Dense(3)(layers.Concatenate(axis=1)([y, x])),
        lambda x, y: layers.Concatenate()([x, y]),
        with_another_reader,
    ],
)
def test_an_offset_that_something_after_it_cannot_add_stays_everywhere(moved, read):
    assert not moved(lambda x, y: refused(x, y, read(x, y)))
