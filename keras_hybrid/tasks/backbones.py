"""What all dense heads ask of a backbone, and the model they make of it."""

import os
from collections.abc import Callable

import keras

from keras_hybrid.models.builder import load_weights
from keras_hybrid.weights.presets import find_preset, is_tag
from keras_hybrid.weights.pretrained.pretrained import load_pretrained


def check_classes(classes: int):
    """Raises a ValueError for what is no number of classes."""
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")


def load_system_weights(
    model: keras.Model,
    name: str,
    weights: str | os.PathLike | None,
    published: Callable[[], keras.Model],
):
    """Loads what a published system's builder got as `weights`: a tag, or the path of a file.

    Args:
        model: that was built.
        name: of the builder.
        weights: as given to it.
        published: builds the network of the tag's file, without weights.

    Raises:
        ValueError: for an unknown tag, or a file that does not fit.
        DownloadError: where published weights cannot be had.
    """
    if is_tag(weights):
        load_pretrained(model, find_preset(name, weights), published)
    else:
        load_weights(model, weights)


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
