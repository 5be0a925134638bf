"""Which values are rounded on one grid: those that an operator wants so, by construction."""

import keras

from keras_hybrid.quantization.passes.equal_steps import equal_values
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.rules import FixedRange, OutputRange
from keras_hybrid.quantization.twins.float_guard import FloatGuard, Requantize
from keras_hybrid.surgery.editable_model import EditableModel, Step, Value, new_step


def edit_joined_inputs(
    model: EditableModel, placement: Placement, limits: dict[Value, tuple[float, float]]
):
    """Has values of a range of their own brought to their group's before they are joined.

    TFLite gives a sigmoid, a softmax and a tanh the same range whatever their values. Joined with
    others, their integers would be taken for those of the others' grid: the converter says nothing.
    A range that clips would clip the others.

    Args:
        model: before roundings are put in.
        placement: of its steps, which gets those that are new.
        limits: of learned ranges that clip, by value.
    """
    for step, rule in placement.int8_rules():
        if not rule.one_range:
            continue
        origins = placement.origins()
        own = {x: _own_range(placement, origins[x], limits) for x in step.inputs}
        if len(set(own.values())) == 1 and OutputRange.INSIDE not in own.values():
            continue
        for number, (value, bounds) in enumerate(own.items()):
            if bounds is not None:
                again = new_step(
                    Requantize(name=f"{step.name}_input{number}"), [value], value.shape
                )
                step.replace_input(value, again.output)
                model.insert_before(step, again)
                placement.add_in_int8(again)


def _own_range(placement, value, limits):
    """Where a value's range comes from, if not from images alone; None for one that is learned."""
    if value in limits:
        return limits[value]
    producer = placement.producers[value]
    bounds = placement.output_range(producer) if placement.int8[producer] else None
    return bounds if isinstance(bounds, FixedRange) or bounds is OutputRange.INSIDE else None


def edit_moved_values(model: EditableModel, placement: Placement, origins: dict[Value, Value]):
    """Rounds what was only moved once more, on its grid, where several layers read it.

    The converter passes a grid on through an operator that only moves values where one reads them;
    of several, of which one joins them with others, the rest would be left in float.

    Args:
        model: with roundings, before they are shared.
        placement: of its steps.
        origins: of `Placement.origins`.
    """
    roundings = roundings_of_values(model)
    for step, _ in list(placement.int8_rules()):
        if not placement.rearranges(step):
            continue
        for number, value in enumerate(step.outputs):
            rounding = roundings.get(origins[value])
            if rounding is not None and len(model.consumers(value)) > 1:
                round_again(model, value, f"{step.name}_moved{number or ''}", rounding)


def _carry_over(old, kept):
    """Has the rounding that is kept remember what the image's said of the whole model."""
    for name in ("profile", "target"):
        if getattr(old.operation, name) is not None and getattr(kept.operation, name) is None:
            setattr(kept.operation, name, getattr(old.operation, name))
            kept.config[name] = getattr(old.operation, name)


def roundings_of_values(model: EditableModel) -> dict[Value, Step]:
    """By each value that is rounded the step that does it, float guards before it left out."""
    found = {}
    for step in model.steps:
        if step.is_a(FakeQuantize):
            value = step.inputs[0]
            while (producer := model.producer(value)).is_a(FloatGuard):
                value = producer.inputs[0]
            found[value] = step
    return found


def round_again(model: EditableModel, value: Value, name: str, rounding: Step):
    """Rounds a value on a grid of before.

    Args:
        model: with roundings.
        value: to be rounded.
        name: of the new step.
        rounding: the step whose grid it is.
    """
    again = new_step(FakeQuantize(tfmot.learned(None, False), name=name), [value], value.shape)
    again.partial = True
    model.interpose(value, again)
    again.operation, again.config = rounding.operation, rounding.config


def range_groups(
    model: EditableModel, placement: Placement, origins: dict[Value, Value]
) -> list[list[Value]]:
    """Values, as they were computed, that are to be rounded on one grid.

    The parts of one convolution that was split: one grid spares their sum a rescaling. The inputs
    of operators whose rule says so. What equal layers make of one value.

    Args:
        model: before roundings are put in.
        placement: of its steps.
        origins: of `Placement.origins`.
    """
    groups = []
    for step, _ in placement.int8_rules():
        if step.is_a(keras.layers.Add):
            parts = [placement.producers[value] for value in step.inputs]
            if all(part.origin == step.origin for part in parts):
                groups.append(list(step.inputs))
    for step, rule in placement.int8_rules():
        if rule.one_range:
            groups.append([origins[value] for value in step.inputs])
    return groups + equal_values(placement, model)


def edit_shared_ranges(model: EditableModel, groups: list[list[Value]]):
    """Lets all values of a group be rounded by one layer.

    Args:
        model: with roundings.
        groups: of `range_groups`.
    """
    roundings = [step for step in model.steps if step.is_a(FakeQuantize)]
    of_value = roundings_of_values(model)
    for group in groups:
        steps = [of_value[value] for value in group if value in of_value]
        steps = [step for step in steps if step.operation.fixed_range is None]
        steps.sort(key=lambda step: not step.operation.symmetric)  # which suits all
        for step in steps[1:]:
            _carry_over(step, steps[0])
        for old in [step.operation for step in steps[1:]]:
            for other in roundings:
                if other.operation is old:
                    other.operation, other.config = steps[0].operation, steps[0].config
