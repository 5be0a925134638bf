"""Layers that do nothing in inference."""

import keras

from keras_hybrid.layers import DropPath
from keras_hybrid.surgery.editable_model import EditableModel, as_pass

TRAINING_ONLY = (
    DropPath,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.ActivityRegularization,
)


def edit_regularisers(model: EditableModel):
    """The edit of `remove_regularisers`."""
    for step in list(model.steps):
        if step.is_a(*TRAINING_ONLY):
            model.bypass(step)


remove_regularisers = as_pass(edit_regularisers)
