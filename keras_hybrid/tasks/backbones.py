"""What all dense heads ask of a backbone, and the model they make of it."""

import os
from collections.abc import Callable

import keras

from keras_hybrid.models.builder import load_weights
from keras_hybrid.models.features import feature_pyramid
from keras_hybrid.weights.presets import find_preset, is_tag
from keras_hybrid.weights.pretrained.pretrained import load_pretrained


def check_classes(classes: int):
    """Raises a ValueError for what is no number of classes."""
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")


def backbone_maps(backbone: keras.Model, levels: tuple[str, ...]) -> dict:
    """The backbone's feature maps of some levels, finest first.

    Args:
        backbone: a functional model.
        levels: such as ("P4", "P5"): the last maps of strides 16 and 32.

    Raises:
        ValueError: for a backbone without one of them.
    """
    pyramid = feature_pyramid(backbone)
    if not set(levels) <= set(pyramid):
        strides = ", ".join(str(2 ** int(level[1:])) for level in levels)
        raise ValueError(
            f"A backbone with maps of strides {strides} is expected. "
            f"Received: {backbone.name} with {tuple(pyramid)}"
        )
    return {level: pyramid[level] for level in levels}


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
