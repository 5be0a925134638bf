"""The counter of multiply-adds against sums by hand."""

import keras
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid.analysis.cost import layer_costs
from keras_hybrid.layers import DotProductAttention


def test_each_kind_of_layer_is_counted_as_by_hand():
    image = keras.Input((8, 6, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(image)  # (4, 3, 4)
    x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = DotProductAttention(2, name="attention")([x, x, x])
    x = layers.ReLU(name="relu")(x)
    x = layers.Dense(5, name="dense")(x)
    costs = {cost.name: cost for cost in layer_costs(keras.Model(image, x))}
    multiply_adds = {name: cost.multiply_adds for name, cost in costs.items()}
    assert multiply_adds["conv"] == 12 * 3 * 3 * 3 * 4
    assert multiply_adds["grouped"] == 12 * 2 * 8
    assert multiply_adds["depthwise"] == 12 * 3 * 3 * 16
    assert multiply_adds["attention"] == 12 * 12 * (16 + 16)
    assert multiply_adds["relu"] == 0
    assert multiply_adds["dense"] == 12 * 16 * 5
    assert costs["conv"].parameters == 3 * 3 * 3 * 4 + 4
    assert costs["depthwise"].parameters == 3 * 3 * 16 + 16


def test_attention_in_groups_costs_less():
    query = (None, 8, 8, 4)
    assert DotProductAttention().multiply_adds(query, query, query) == 64 * 64 * 8
    assert DotProductAttention(window_size=4).multiply_adds(query, query, query) == 64 * 16 * 8
    separate = DotProductAttention(separate_positions=True)
    assert separate.multiply_adds(query, query, query) == 64 * 8 * 8


def test_a_layer_used_twice_has_the_cost_of_two_calls_and_its_weights_once():
    image = keras.Input((4,))
    dense = layers.Dense(4, name="shared")
    model = keras.Model(image, dense(dense(image)))
    (cost,) = (cost for cost in layer_costs(model) if cost.name == "shared")
    assert (cost.multiply_adds, cost.parameters) == (32, 20)


@pytest.mark.large
def test_the_size_of_the_image_is_asked_for_and_used():
    anywhere = keras_hybrid.MobileViTXXS(weights=None, input_shape=(None, None, 3))
    fixed = keras_hybrid.MobileViTXXS(weights=None, input_shape=(128, 96, 3))
    expected = keras_hybrid.count_multiply_adds(fixed)
    assert keras_hybrid.count_multiply_adds(anywhere, (128, 96)) == expected
    assert keras_hybrid.count_multiply_adds(fixed, (128, 96)) == expected
    assert keras_hybrid.count_multiply_adds(fixed, 64) < expected
    with pytest.raises(ValueError, match="input_size=None"):
        keras_hybrid.count_multiply_adds(anywhere)


def test_only_functional_models_are_counted():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="functional"):
        layer_costs(Subclassed())
    with pytest.raises(ValueError, match="functional"):
        keras_hybrid.count_multiply_adds("MobileFormer26M")


def test_other_kinds_of_products_are_counted_too():
    image = keras.Input((8, 6, 3))
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up")(image)  # (16, 12, 4)
    x = layers.SeparableConv2D(5, 3, padding="same", name="separable")(x)
    x = layers.Reshape((192, 5))(x)
    x = layers.Conv1D(6, 3, strides=2, padding="same", name="line")(x)  # (96, 6)
    x = layers.EinsumDense("abc,cd->abd", (96, 7), name="einsum")(x)
    x = layers.EinsumDense("...c,cd->...d", 7, name="ellipsis")(x)
    y = layers.MultiHeadAttention(2, 4, value_dim=3, name="attention")(x, x)
    scores = keras.ops.matmul(y, keras.ops.transpose(y, (0, 2, 1)))  # (96, 96)
    model = keras.Model(image, scores)
    costs = {cost.name: cost.multiply_adds for cost in layer_costs(model)}
    assert costs["up"] == 48 * 3 * 4 * 4
    assert costs["separable"] == 192 * (9 * 4 + 4 * 5)
    assert costs["line"] == 96 * 3 * 5 * 6
    assert costs["einsum"] == 96 * 6 * 7
    assert costs["ellipsis"] == 96 * 7 * 7
    projections = 96 * (7 * 8 + 7 * 8 + 7 * 6 + 6 * 7)
    assert costs["attention"] == projections + 96 * 96 * (8 + 6)
    assert costs[model.operations[-1].name] == 96 * 96 * 7


def test_a_length_that_is_not_known_is_named():
    sequence = keras.Input((None, 4))
    model = keras.Model(sequence, layers.Dense(3, name="words")(sequence))
    with pytest.raises(ValueError, match=r"Received: words with inputs \[\(None, None, 4\)\]"):
        layer_costs(model)
