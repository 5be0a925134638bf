"""Where a run's weights come from, when not from chance."""

import os
from pathlib import Path

import keras

from keras_hybrid.files import MODEL_FILE
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.weights.checkpoints.load import load_checkpoint
from keras_hybrid.weights.families import families
from keras_hybrid.weights.preprocessing import preprocessing_of
from keras_hybrid.weights.presets import find_preset, is_tag
from keras_hybrid.weights.pretrained.pretrained import load_pretrained


def load_initial_weights(model: keras.Model, recipe: Recipe):
    """Puts the recipe's initial weights into a new model.

    A classifier for another number of classes stays new, with a warning; `new_classifier` keeps
    it new in any case. The rest must fit.

    Args:
        model: the recipe's, new.
        recipe: with `initial_weights`: a tag of published weights, a checkpoint or a run's folder.

    Raises:
        ValueError: for weights that do not exist, do not fit, or take other images.
        DownloadError: when published weights cannot be had.
    """
    weights = recipe.initial_weights
    if weights is None:
        return
    names = {name for family in families() for name in family.classifiers}
    classifiers = [layer for layer in model.layers if layer.name in names]
    new = [layer.get_weights() for layer in classifiers]
    if is_tag(weights):
        _load_published(model, recipe)
    else:
        load_checkpoint(model, weights_file(weights), allow_fresh_head=True)
    if recipe.new_classifier:
        for layer, values in zip(classifiers, new, strict=True):
            layer.set_weights(values)


def _load_published(model, recipe):
    preset = _rgb_preset(recipe)
    options = {"distillation": True} if preset.distillation else {}
    load_pretrained(model, preset, lambda: build_model(preset.model, weights=None, **options))


def _rgb_preset(recipe):
    """The published weights that the recipe names.

    Raises:
        ValueError: where they take images of another order of channels than training feeds.
    """
    preset = find_preset(recipe.model, recipe.initial_weights)
    if preset.preprocessing.channel_order != preprocessing_of(recipe.model).channel_order:
        raise ValueError(
            "Training feeds RGB images: take other published weights, or turn these with "
            "`recipes/convert_weights.py --swap_channels`. Received: "
            f"initial_weights={recipe.initial_weights!r}, which take "
            f"{preset.preprocessing.channel_order}"
        )
    return preset


def load_backbone_weights(model: keras.Model, recipe: CommonRecipe):
    """Puts the recipe's initial weights into a new dense network, a classifier's into its backbone.

    What is in neither of both stays new, with a warning where a file has been loaded.

    Args:
        model: the recipe's, new.
        recipe: with `initial_weights`: a tag of published weights of the backbone, a checkpoint of
            a classifier or of a dense network, or a run's folder.

    Raises:
        ValueError: for weights that do not exist, do not fit, or take other images.
        DownloadError: when published weights cannot be had.
    """
    weights = recipe.initial_weights
    if weights is None:
        return
    if not is_tag(weights):
        load_checkpoint(model, weights_file(weights), allow_fresh_head=True)
        return
    preset = _rgb_preset(recipe)
    backbone = build_model(recipe.model, weights=preset.tag, include_top=False)
    trained = {layer.name: layer for layer in backbone.layers if layer.weights}
    for layer in model.layers:
        if layer.name in trained:
            layer.set_weights(trained[layer.name].get_weights())


def weights_file(path: str | os.PathLike) -> Path:
    """The file of a model: the path itself, or the model in a run's folder.

    Raises:
        ValueError: when there is none.
    """
    file = Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ValueError(
            "A tag of `keras_hybrid.list_weights()`, a checkpoint's file or the folder of a "
            f"finished run is expected. Received: {os.fspath(path)!r}"
        )
    return file
