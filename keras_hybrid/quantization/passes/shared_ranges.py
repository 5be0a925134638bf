"""Which values are rounded on one grid: those that an operator wants so, by construction."""

import keras

from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.surgery.editable_model import EditableModel, Value


def range_groups(
    model: EditableModel, placement: Placement, origins: dict[Value, Value]
) -> list[list[Value]]:
    """Values, as they were computed, that are to be rounded on one grid.

    The parts of one convolution that was split: one grid spares their sum a rescaling. The inputs
    of operators whose rule says so.

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
    return groups


def edit_shared_ranges(model: EditableModel, groups: list[list[Value]]):
    """Lets all values of a group be rounded by one layer.

    Args:
        model: with roundings.
        groups: of `range_groups`.
    """
    roundings = [step for step in model.steps if step.is_a(FakeQuantize)]
    of_value = {step.inputs[0]: step for step in roundings}
    for group in groups:
        steps = [of_value[value] for value in group if value in of_value]
        steps = [step for step in steps if step.operation.fixed_range is None]
        for old in [step.operation for step in steps[1:]]:
            for other in roundings:
                if other.operation is old:
                    other.operation, other.config = steps[0].operation, steps[0].config
