"""Sums and products as operators of two inputs."""

import keras

from keras_hybrid.surgery.editable_model import EditableModel, new_step

CHAINED = (
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Maximum,
    keras.layers.Minimum,
)


def edit_long_sums(model: EditableModel):
    """Writes sums, products, maxima of three and more as chains: operators take two inputs."""
    for step in list(model.steps):
        if step.layer_class not in CHAINED:
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
