"""Float guards where float follows a rounding: the converter makes int8 what lies between two."""

from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.rules import converter_rounds
from keras_hybrid.quantization.twins.float_guard import FloatDotProductAttention, FloatGuard
from keras_hybrid.surgery.editable_model import EditableModel, new_step


def edit_float_guards(model: EditableModel, placement: Placement):
    """Keeps the converter from making int8 what is placed in float.

    Args:
        model: with roundings.
        placement: of its steps.
    """
    for step in list(model.steps):
        if placement.int8.get(step, True):
            continue
        if step.layer_class is DotProductAttention:
            step.edit().layer_class = FloatDotProductAttention
        for value in set(step.inputs):
            origin = _computed_by(model, placement, value)
            if origin.is_a(FloatGuard):
                continue
            if origin.is_a(FakeQuantize) or converter_rounds(origin):
                name = f"{step.name}_float{step.inputs.index(value)}"
                guard = new_step(FloatGuard(name=name), [value], value.shape)
                step.replace_input(value, guard.output)
                model.insert_before(step, guard)


def _computed_by(model, placement, value):
    """The step that computes or rounds a value that is only rearranged since."""
    step = model.producer(value)
    while placement.rearranges(step):
        step = model.producer(step.inputs[0])
    return step
