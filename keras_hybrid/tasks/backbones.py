"""What all dense heads ask of a backbone, and the model they make of it."""

import os

import keras

from keras_hybrid.models.builder import load_weights


def check_classes(classes: int):
    """Raises a ValueError for what is no number of classes."""
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")


def dense_model(
    backbone: keras.Model, outputs, name: str, weights: str | os.PathLike | None
) -> keras.Model:
    """The flat model from the backbone's input to a head's outputs.

    Args:
        backbone: a functional model, whose layers it shares.
        outputs: a tensor or a dict of tensors computed from the backbone's.
        name: of the model.
        weights: path of a checkpoint, or None.

    Raises:
        ValueError: for a checkpoint that does not fit.
    """
    model = keras.Model(backbone.input, outputs, name=name)
    load_weights(model, weights)
    return model
