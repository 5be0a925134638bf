"""Sums and products as operators of two inputs."""

import keras

from keras_hybrid.surgery.editable_model import EditableModel, new_step


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
