"""Images turned into what a network expects of them."""

from typing import Any

import keras
import numpy as np

from keras_hybrid.did_you_mean import suggestion
from keras_hybrid.weights.families import families, family_of
from keras_hybrid.weights.family import Preprocessing, Preset
from keras_hybrid.weights.origin import remembered_preprocessing
from keras_hybrid.weights.presets import find_preset


def preprocessing_of(model: keras.Model | str | Preset | Preprocessing) -> Preprocessing:
    """The preprocessing of a model, a preset, or a name of one of them or of a family.

    A model that was built with published weights follows their preset, and so do all that are
    made of it: read back from a `.keras` file, with another head, or inside another model. One
    with other weights follows its family, which takes RGB; name the preset where that is wrong.

    Args:
        model: a model, a preset or its name ("MobileViTS/imagenet_apple"), a builder's name
            ("MobileViTS"), a family's ("mobilevit"), or a `Preprocessing`.

    Raises:
        ValueError: for a name that is none of these.
    """
    if isinstance(model, Preprocessing):
        return model
    if isinstance(model, Preset):
        return model.preprocessing
    if isinstance(model, str):
        return _by_name(model)
    return remembered_preprocessing(model) or family_of(model).preprocessing


def _by_name(name):
    if "/" in name:
        return find_preset(*name.split("/", 1)).preprocessing
    plain = _plain(name)
    for family in families():
        if plain.startswith(_plain(family.name)) or name in (*family.builders, *family.systems):
            return family.preprocessing
    names = [family.name for family in families()]
    builders = [builder for family in families() for builder in family.builders]
    raise ValueError(
        f"`model` must be a model, a preset, a builder's name or one of {tuple(names)}."
        f"{suggestion(name, [*names, *builders])} Received: model={name!r}"
    )


def _plain(name):
    return name.lower().replace("_", "").replace("-", "")


def preprocess_input(x: Any, model: keras.Model | str | Preset | Preprocessing) -> Any:
    """Turns RGB images of values 0 to 255 into the input of a model.

    Args:
        x: (..., H, W, 3), RGB, 0 to 255, an array or tensor of any number type.
        model: whose input: anything that `preprocessing_of` takes.

    Returns: float32 of x's shape, an array for an array and a tensor for a tensor.

    Raises:
        ValueError: for another number of channels, or an unknown model.
    """
    preprocessing = preprocessing_of(model)
    if x.shape[-1] != 3:
        raise ValueError(f"Images need 3 channels, last. Received: shape {tuple(x.shape)}")
    scale = (1 / (255 * np.asarray(preprocessing.std))).astype("float32")
    offset = (-np.asarray(preprocessing.mean) / np.asarray(preprocessing.std)).astype("float32")
    is_bgr = preprocessing.channel_order == "BGR"
    if isinstance(x, np.ndarray):
        x = x.astype("float32") * scale + offset
        return x[..., ::-1] if is_bgr else x
    if type(x).__module__.startswith("tensorflow."):  # in `tf.data`, whatever Keras' backend is
        import tensorflow as tf

        x = tf.cast(x, "float32") * scale + offset
        return x[..., ::-1] if is_bgr else x
    x = keras.ops.cast(x, "float32") * keras.ops.convert_to_tensor(scale)
    x = x + keras.ops.convert_to_tensor(offset)
    return keras.ops.flip(x, -1) if is_bgr else x
