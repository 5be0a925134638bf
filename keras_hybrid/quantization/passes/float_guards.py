"""What stays in float: twins that compute as the file does, and guards from the converter.

Between two roundings, the converter makes int8 what it can.
"""

import keras

from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.rules import converter_rounds
from keras_hybrid.quantization.twins.float_guard import (
    FloatConv2D,
    FloatDotProductAttention,
    FloatGuard,
)
from keras_hybrid.surgery.editable_model import EditableModel, new_step

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


def _computed_by(model, placement, value):
    """The step that computes or rounds a value that is only rearranged since."""
    step = model.producer(value)
    while placement.rearranges(step):
        step = model.producer(step.inputs[0])
    return step
