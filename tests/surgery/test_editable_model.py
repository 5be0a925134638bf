"""The steps of a model under edits: who computes and takes a value, and where steps are from."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_hybrid.surgery.editable_model import EditableModel, new_step
from keras_hybrid.surgery.passes.branches import edit_averaged_heads
from keras_hybrid.surgery.passes.depthwise import edit_depth_multipliers, edit_large_kernels


def check_links(model):
    """The maps say what a scan of all steps says."""
    position = {step: index for index, step in enumerate(model.steps)}
    for step in model.steps:
        assert model.position(step) == position[step]
        for value in step.outputs:
            assert model.producer(value) is step
            takers = [other for other in model.steps if value in other.inputs]
            assert model.consumers(value) == takers
            alone = len(takers) == 1 and not model.is_output(value)
            assert model.only_consumer(value) is (takers[0] if alone else None)
        for value in step.inputs:
            assert position[model.producer(value)] < position[step]


@pytest.fixture
def editable():
    """image -> a -> relu -> b, and a + relu + b."""
    image = keras.Input((4, 4, 3), name="image")
    a = layers.Conv2D(5, 1, name="a")(image)
    relu = layers.ReLU(name="relu")(a)
    b = layers.Conv2D(5, 1, name="b")(relu)
    return EditableModel(keras.Model(image, layers.Add(name="sum")([a, relu, b])))


def step_of(model, name):
    (step,) = (step for step in model.steps if step.name == name)
    return step


def factor(value, name, scale=2.0):
    return new_step(layers.Rescaling(scale, name=name), [value], value.shape)


def test_maps_are_right_under_every_edit(editable):
    a, relu, b = (step_of(editable, name) for name in ("a", "relu", "b"))
    check_links(editable)
    for edit in (
        lambda: editable.interpose(a.output, factor(a.output, "all")),
        lambda: editable.interpose(relu.output, factor(relu.output, "one"), consumers=[b]),
        lambda: editable.insert_before(b, factor(relu.output, "unused")),
        lambda: editable.insert_after(a, factor(a.output, "unused_too")),
        lambda: editable.remove(step_of(editable, "unused")),
        lambda: editable.replace(b, factor(b.inputs[0], "b1"), factor(b.inputs[0], "b2")),
        lambda: editable.bypass(relu),
        editable.remove_unused,
    ):
        edit()
        check_links(editable)
    names = [step.name for step in editable.steps]
    assert names == ["image", "a", "all", "one", "b2", "sum"]


def test_inputs_that_a_step_takes_anew_are_known(editable):
    a, b = step_of(editable, "a"), step_of(editable, "b")
    b.take(a.output)
    assert editable.consumers(a.output)[1] is b
    assert b not in editable.consumers(step_of(editable, "relu").output)
    check_links(editable)


def test_a_chain_comes_between_a_value_and_those_named(editable):
    relu, b = step_of(editable, "relu"), step_of(editable, "b")
    first = factor(relu.output, "first")
    editable.interpose(relu.output, first, factor(first.output, "second"), consumers=[b])
    model = editable.to_model()
    image = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    y = model.get_layer("a")(image)
    relu = keras.ops.relu(y)
    expected = y + relu + model.get_layer("b")(4 * relu)
    np.testing.assert_allclose(model(image), expected, atol=1e-5)


def test_a_step_that_left_the_model_tells_it_nothing(editable):
    b = step_of(editable, "b")
    editable.bypass(b)
    b.take(step_of(editable, "a").output)
    check_links(editable)


def test_steps_of_a_copy_of_the_list_change_nothing(editable):
    with pytest.raises(AttributeError):
        editable.steps.remove(step_of(editable, "b"))


def test_a_step_has_the_origin_of_what_it_was_made_of(editable):
    b = step_of(editable, "b")
    part, whole = factor(b.inputs[0], "part"), factor(b.inputs[0], "whole")
    after = factor(b.output, "after")
    editable.replace(b, part, whole)
    editable.insert_after(step_of(editable, "sum"), after)
    assert part.origin == whole.origin == ("b",)
    assert after.origin == ("sum",)


def origins(model, *edits):
    editable = EditableModel(model)
    for edit in edits:
        edit(editable)
    return {step.name: step.origin for step in editable.steps}


def test_parts_of_a_convolution_remember_it():
    x = keras.Input((9, 9, 32))
    y = layers.DepthwiseConv2D(7, padding="same", name="large")(x)
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, name="wide")(y)
    found = origins(keras.Model(x, y), edit_large_kernels, edit_depth_multipliers)
    assert sum(origin == ("large",) for origin in found.values()) == 4
    assert sum(origin == ("wide",) for origin in found.values()) == 4


def test_heads_that_were_averaged_are_all_remembered():
    x = keras.Input((4,))
    y = layers.Average()([layers.Dense(2, name="one")(x), layers.Dense(2, name="two")(x)])
    assert origins(keras.Model(x, y), edit_averaged_heads)["one"] == ("one", "two")


def test_a_name_stands_for_a_layer_before_it_stands_for_a_block():
    x = y = keras.Input((4,))
    for name in ("dense", "dense_1", "block_a", "block_b"):
        y = layers.Dense(4, name=name)(y)
    editable = EditableModel(keras.Model(x, y))
    step = step_of(editable, "dense_1")
    editable.replace(step, factor(step.inputs[0], "part"))
    for name, wanted in {
        "dense": ["dense"],
        "dense_1": ["part"],
        "part": ["part"],
        "block": ["block_a", "block_b"],
        "bloc": [],
    }.items():
        assert [step.name for step in editable.named(name)] == wanted
