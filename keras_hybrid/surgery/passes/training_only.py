"""Layers that do nothing in inference."""

import keras

from keras_hybrid.surgery.editable_model import EditableModel, new_step
from keras_hybrid.surgery.layer_traits import TRAINING_ONLY


def edit_regularisers(model: EditableModel):
    """Removes them, and layers that never do anything; what they make float becomes float still."""
    for step in model.steps:
        if not step.is_a(*TRAINING_ONLY) and not _is_idle(step):
            continue
        value = step.inputs[0]
        if value.is_float:
            model.bypass(step)
        elif step.output.is_float:
            layer = keras.layers.Rescaling(1.0, name=step.name, dtype="float32")
            model.replace(step, new_step(layer, [value], step.output.shape))


def _is_idle(step):
    """Whether the step is an activation named "linear", or a cast to the type that is there."""
    if step.layer_class is keras.layers.Activation:
        return step.setting("activation") == "linear"
    is_cast = step.layer_class.__name__ == "Cast" and not step.is_a(keras.layers.Layer)
    return is_cast and step.inputs[0].dtype == step.output.dtype
