"""Layers that do nothing in inference."""

from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.layer_traits import TRAINING_ONLY


def edit_regularisers(model: EditableModel):
    """Removes them."""
    for step in list(model.steps):
        if step.is_a(*TRAINING_ONLY):
            model.bypass(step)
