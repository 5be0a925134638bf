"""Clipping that a range does for nothing."""

import keras

from keras_hybrid.layers import TwoSlopeReLU
from keras_hybrid.quantization.passes.equal_steps import clipping_of
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges.fake_quantize import clear_of_ties
from keras_hybrid.quantization.rules import OutputRange
from keras_hybrid.quantization.twins.float_guard import Requantize
from keras_hybrid.quantization.twins.plain import Clip
from keras_hybrid.surgery.editable_model import EditableModel

FAR = 1e30  # a bound that is none
BOUNDS = {"relu": (0.0, FAR), "relu6": (0.0, 6.0), "hard_tanh": (-1.0, 1.0)}


def edit_slopes(model: EditableModel, is_int8) -> dict:
    """Leaves the clipping of DY-ReLU's slopes to their ranges, and their scale to the weights.

    Args:
        model: to be edited.
        is_int8: whether a step is computed in int8.

    Returns: limits of ranges by value.
    """
    limits = {}
    for step in model.steps:
        if not step.is_a(TwoSlopeReLU) or not is_int8(step):
            continue
        scale = step.setting("first_scale")
        first, second = (model.producer(value) for value in step.inputs[1:])
        if not _is_slope(model, first, "relu6") or not _is_slope(model, second, "hard_tanh"):
            continue
        for name in first.edit().weights:
            first.weights[name] = first.weights[name] * scale
        first.config["activation"] = second.edit().config["activation"] = "linear"
        step.edit().config["first_scale"] = 1.0
        limits[first.output] = (0.0, 6.0 * scale)
        limits[second.output] = clear_of_ties(-1.0, 1.0)
    return limits


def _is_slope(model, step, activation):
    return (
        step is not None
        and model.editable(step)
        and step.layer_class is keras.layers.Dense
        and step.setting("activation") == activation
        and model.only_consumer(step.output) is not None
    )


def edit_clipping(model: EditableModel, placement: Placement) -> dict:
    """Leaves clipping in int8 to the range of what is clipped, where no kernel does it.

    Where something else takes the value before it is clipped, it is rounded once more.

    Args:
        model: to be edited.
        placement: of its steps, which the edited ones leave.

    Returns: limits of ranges by value.
    """
    limits = {}
    for step in list(model.steps):
        if not placement.int8[step] or placement.fused(step):
            continue
        bounds = _bounds(step)
        if bounds is None:
            continue
        value = step.inputs[0]
        producer = placement.producers[value]
        if (
            model.only_consumer(value) is step
            and placement.int8[producer]
            and placement.output_range(producer) is OutputRange.LEARNED
        ):
            limits[value] = _within_both(limits.get(value), bounds)
            placement.remove(step)
            model.bypass(step)
        else:
            limits[step.output] = clear_of_ties(*bounds)
            step.edit()
            step.layer_class, step.config = Requantize, {"name": step.name}
    return limits


def _bounds(step):
    """What a step clips to; None for others."""
    if step.is_a(Clip):
        pairs = zip((step.setting("low"), step.setting("high")), (-FAR, FAR), strict=True)
        return tuple(far if x is None else x for x, far in pairs)
    if not step.is_a(keras.layers.ReLU, keras.layers.Activation):
        return None
    return BOUNDS.get(clipping_of(step))


def _within_both(first, second):
    """The values within two pairs of bounds, each of which holds 0."""
    if first is not None:
        second = max(first[0], second[0]), min(first[1], second[1])
    return clear_of_ties(*second)
