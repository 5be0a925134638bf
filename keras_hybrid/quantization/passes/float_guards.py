"""What stays in float: twins that compute as the file does, and guards from the converter.

Between two roundings, the converter makes int8 what it can.
"""

import keras

from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.rules import activation_name, converter_rounds
from keras_hybrid.quantization.twins.float_guard import (
    FloatConv2D,
    FloatDotProductAttention,
    FloatGuard,
)
from keras_hybrid.surgery.editable_model import EditableModel, Step, new_step
from keras_hybrid.surgery.layer_traits import AFFINE, HAS_ACTIVATION

FLOAT_TWINS = {keras.layers.Conv2D: FloatConv2D, DotProductAttention: FloatDotProductAttention}


def edit_float_guards(model: EditableModel, placement: Placement):
    """Has what is placed in float computed as the file does, and kept from the converter's int8.

    Args:
        model: with roundings.
        placement: of its steps.
    """
    for step in list(model.steps):
        if placement.int8.get(step, True):
            continue
        for value in set(step.inputs):
            origin = _computed_by(model, placement, value)
            if origin.is_a(FloatGuard):
                continue
            if origin.is_a(FakeQuantize) or converter_rounds(origin):
                name = f"{step.name}_float{step.inputs.index(value)}"
                guard = new_step(FloatGuard(name=name), [value], value.shape)
                step.replace_input(value, guard.output)
                model.insert_before(step, guard)
    for step in model.steps:
        if not placement.int8.get(step, True) and step.layer_class in FLOAT_TWINS:
            step.edit().layer_class = FLOAT_TWINS[step.layer_class]


def edit_whole_gelus(model: EditableModel) -> bool:
    """Keeps the converter from making a GELU's last product one with a ReLU; whether there are any.

    It knows GELU only as a whole, and makes ReLUs part of the product before them first; a change
    of sign before it likewise becomes part of its first. TFLite has no error function, and no
    powers in int16. For files alone.

    Args:
        model: whose GELUs in float are to come through.
    """
    found = False
    for step in list(model.steps):
        if not _is_gelu(step):
            continue
        readers = model.consumers(step.output)
        if readers and all(reader.is_a(FakeQuantize) for reader in readers):
            continue  # in int8
        (given,) = step.inputs[:1]
        before = model.producer(given)
        sides = [(step, given)] if not before.is_a(*AFFINE, *_ROUNDED) else []
        for reader in readers:
            if not reader.is_a(*AFFINE, *_ROUNDED):
                sides.append((reader, step.output))
        for reader, value in sides:
            name = f"{reader.name}_whole_{step.name}"
            guard = new_step(FloatGuard(name=name), [value], value.shape)
            reader.replace_input(value, guard.output)
            model.insert_before(reader, guard)
            found = True
    return found


_ROUNDED = (FakeQuantize, FloatGuard, keras.layers.InputLayer)


def _is_gelu(step: Step) -> bool:
    """Whether a step ends in GELU, or in a function that may be it."""
    if step.is_a(keras.layers.Activation) or step.layer_class in HAS_ACTIVATION:
        activation = step.operation.activation if step.config is None else step.config["activation"]
        name = activation_name(activation)
        return name == "gelu" or not hasattr(keras.activations, name)
    return step.layer_class.__name__ == "Gelu" and not step.is_a(keras.layers.Layer)


def _computed_by(model, placement, value):
    """The step that computes or rounds a value that is only rearranged since."""
    step = model.producer(value)
    while placement.rearranges(step):
        step = model.producer(step.inputs[0])
    return step
