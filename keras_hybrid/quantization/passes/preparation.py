"""Edits before quantisation: one operator a step, and clipping left to ranges."""

import keras
import numpy as np

from keras_hybrid.layers import TwoSlopeReLU
from keras_hybrid.quantization.rules import FUSED, activation_name, fusable
from keras_hybrid.surgery.editable_model import EditableModel, new_step

HAS_ACTIVATION = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def edit_activations(model: EditableModel):
    """Gives activations that an int8 kernel does not have for free a step of their own."""
    for step in list(model.steps):
        if step.layer_class not in HAS_ACTIVATION or not model.editable(step):
            continue
        name = activation_name(step.setting("activation"))
        if name in FUSED:
            continue
        step.edit().config["activation"] = "linear"
        old = step.output
        layer = keras.layers.Activation(name, name=f"{step.name}_{name}")
        activation = new_step(layer, [old], old.shape)
        insert_after(model, step, activation)


def edit_long_sums(model: EditableModel):
    """Writes sums and products of three and more as chains: each has a range of its own."""
    for step in list(model.steps):
        if step.layer_class not in (keras.layers.Add, keras.layers.Multiply):
            continue
        if len(step.inputs) <= 2:
            continue
        total, new = step.inputs[0], []
        for number, value in enumerate(step.inputs[1:], 2):
            last = number == len(step.inputs)
            name = step.name if last else f"{step.name}_of{number}"
            layer = step.layer_class(name=name, dtype=step.operation.dtype_policy)
            new.append(new_step(layer, [[total, value]], step.output.shape))
            total = new[-1].output
        model.replace(step, *new)


def edit_joined_activations(model: EditableModel):
    """Has convolutions clip what is then concatenated, where one layer clipped all of it.

    They clip on the way out, for nothing, and their common range is that of what is left.
    """
    for step in list(model.steps):
        if not step.inputs or not fusable(step) or not model.editable(step):
            continue
        joint = model.producer(step.inputs[0])
        if not joint.is_a(keras.layers.Concatenate) or model.only_consumer(joint.output) is None:
            continue
        parts = [model.producer(value) for value in joint.inputs]
        if not all(
            part.is_a(*HAS_ACTIVATION) and model.only_consumer(part.output) is joint
            for part in parts
        ):
            continue
        for number, value in enumerate(joint.inputs):
            config = {**(step.config or step.operation.get_config())}
            config["name"] = f"{step.name}_of{number}"
            layer = step.layer_class.from_config(config)
            insert_after(model, parts[number], new_step(layer, [value], value.shape))
        model.bypass(step)


def edit_batch_norms(model: EditableModel):
    """Writes batch norms that no convolution could take as depthwise convolutions of one pixel."""
    for step in list(model.steps):
        if not step.is_a(keras.layers.BatchNormalization) or len(step.output.shape) != 4:
            continue
        if step.setting("axis") not in (-1, 3):
            continue
        variance = step.weight("moving_variance").astype("float64")
        factor = 1 / np.sqrt(variance + step.setting("epsilon"))
        if step.setting("scale"):
            factor = factor * step.weight("gamma")
        offset = -step.weight("moving_mean") * factor
        if step.setting("center"):
            offset = offset + step.weight("beta")
        layer = keras.layers.DepthwiseConv2D(1, name=step.name)
        weights = {
            "kernel": factor.astype("float32").reshape(1, 1, -1, 1),
            "bias": offset.astype("float32"),
        }
        model.replace(step, new_step(layer, [step.inputs[0]], step.output.shape, weights))


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


def insert_after(model: EditableModel, step, new):
    """Puts a new step after one that it takes its input from; the others take its output."""
    (value,) = new.inputs
    model.redirect(value, new.output)
    new.take(value)
    model.steps.insert(model.steps.index(step) + 1, new)
