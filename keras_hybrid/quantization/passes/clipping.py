"""Clipping that a range does for nothing."""

import keras

from keras_hybrid.layers import TwoSlopeReLU
from keras_hybrid.surgery.editable_model import EditableModel


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
        limits[second.output] = (-1.0, 1.0)
    return limits


def _is_slope(model, step, activation):
    return (
        step is not None
        and model.editable(step)
        and step.layer_class is keras.layers.Dense
        and step.setting("activation") == activation
        and model.only_consumer(step.output) is not None
    )
