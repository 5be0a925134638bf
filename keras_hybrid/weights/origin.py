"""Which published weights a network's weights came from, in a form that files keep.

The first convolution holds it, as its kernel's initializer: every network made of a published
trunk has that layer, and its kernel is what decides on the order of the image's channels.
"""

import dataclasses

import keras

from keras_hybrid.layers import PublishedWeights
from keras_hybrid.weights.family import Preprocessing, Preset, all_layers
from keras_hybrid.weights.presets import find_preset


def remember_preset(model: keras.Model, preset: Preset) -> None:
    """Keeps with a model which published weights it was loaded with."""
    remember(model, preset.name, preset.preprocessing.channel_order)


def remember(model: keras.Model, preset: str, channel_order: str) -> None:
    """The same by name; an earlier memory is overwritten."""
    stem = first_convolution(model)
    initializer = stem.kernel_initializer
    if isinstance(initializer, PublishedWeights):
        initializer = initializer.initializer
    stem.kernel_initializer = PublishedWeights(preset, channel_order, initializer)


def forget(model: keras.Model) -> None:
    """Lets go of what is remembered, when other weights are loaded."""
    for layer in all_layers(model):
        initializer = getattr(layer, "kernel_initializer", None)
        if isinstance(initializer, PublishedWeights):
            layer.kernel_initializer = initializer.initializer


def origin_of(model: keras.Model) -> PublishedWeights | None:
    """What is remembered of a model's weights: the preset's name and the channels' order."""
    for layer in all_layers(model):
        initializer = getattr(layer, "kernel_initializer", None)
        if isinstance(initializer, PublishedWeights):
            return initializer
    return None


def preset_of(model: keras.Model) -> Preset | None:
    """The published weights that a model, or the trunk of one, was loaded with; None for others.

    Raises:
        ValueError: for a preset that is not known any more.
    """
    origin = origin_of(model)
    return None if origin is None else find_preset(*origin.preset.split("/", 1))


def remembered_preprocessing(model: keras.Model) -> Preprocessing | None:
    """What the images of a model with published weights must look like; None for others."""
    origin = origin_of(model)
    if origin is None:
        return None
    preprocessing = find_preset(*origin.preset.split("/", 1)).preprocessing
    return dataclasses.replace(preprocessing, channel_order=origin.channel_order)


def first_convolution(model: keras.Model) -> keras.layers.Conv2D:
    """The convolution that takes the image.

    Raises:
        ValueError: for a model without convolutions.
    """
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Conv2D):
            return layer
    raise ValueError(f"The model has no convolution. Received: model={model.name}")
