"""Activations as steps of their own, where an int8 kernel does not compute them on the way out."""

import keras

from keras_hybrid.quantization.rules import FUSED, activation_name, fusable
from keras_hybrid.surgery.editable_model import EditableModel, new_step
from keras_hybrid.surgery.layer_traits import FUSES_INTO, HAS_ACTIVATION


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
        model.interpose(old, activation)


def edit_identities(model: EditableModel):
    """Removes layers that give what they take: after a kernel they would hide its activation."""
    for step in list(model.steps):
        linear = step.layer_class is keras.layers.Activation and (
            activation_name(step.setting("activation")) == "linear"
        )
        if linear or step.layer_class is keras.layers.Identity:
            model.bypass(step)


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
            config = step.config or step.operation.get_config()
            layer = step.layer_class.from_config({**config, "name": f"{step.name}_of{number}"})
            model.interpose(value, new_step(layer, [value], value.shape, origin=step.origin))
        model.bypass(step)


def edit_pooled_activations(model: EditableModel):
    """Has a kernel clip what is then max-pooled and clipped: the same, and for nothing."""
    for step in list(model.steps):
        if not step.inputs or not fusable(step) or not model.editable(step):
            continue
        pool = model.producer(step.inputs[0])
        if not pool.is_a(keras.layers.MaxPooling2D) or model.only_consumer(pool.output) is None:
            continue
        value = pool.inputs[0]
        if model.producer(value).is_a(*FUSES_INTO) and model.only_consumer(value) is pool:
            layer = step.layer_class.from_config(step.config or step.operation.get_config())
            model.bypass(step)
            model.interpose(value, new_step(layer, [value], value.shape, origin=step.origin))
