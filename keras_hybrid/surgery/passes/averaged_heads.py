"""The average of dense layers over one input as one dense layer (distillation heads)."""

import keras

from keras_hybrid.surgery.affine import affine_producer
from keras_hybrid.surgery.editable_model import EditableModel, as_pass


def edit_averaged_heads(model: EditableModel):
    """The edit of `merge_averaged_heads`."""
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
        model.redirect(step.output, first.output)
        model.steps.remove(step)


merge_averaged_heads = as_pass(edit_averaged_heads)
