"""The average of dense layers over one input as one dense layer (distillation heads)."""

import keras

from keras_hybrid.surgery.affine import affine_producer
from keras_hybrid.surgery.editable_model import EditableModel


def edit_averaged_heads(model: EditableModel):
    """Averages the weights of dense layers over one input in place of their outputs."""
    for step in list(model.steps):
        if not step.is_a(keras.layers.Average):
            continue
        heads = [affine_producer(model, value) for value in step.inputs]
        if any(
            head is None or not head.is_a(keras.layers.Dense) or head.inputs != heads[0].inputs
            for head in heads
        ):
            continue
        first = heads[0].edit()
        for name in first.weights:
            first.weights[name] = sum(head.edit().weights[name] for head in heads) / len(heads)
        first.origin = tuple(dict.fromkeys(name for head in heads for name in head.origin))
        model.redirect(step.output, first.output)
        model.remove(step)
