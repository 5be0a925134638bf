"""Small data, a small recipe and a small network, for the tests and the programs they kill."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.recipe.recipe import Recipe

RECIPE = Recipe(
    model="MobileFormer26M",
    resolution=64,
    epochs=3,
    batch_size=8,
    learning_rate=1e-3,
    crop_area=(0.5, 1.0),
    seed=7,
    jit_compile=False,  # XLA takes longer to compile the step than these few take
)


def make_source():
    """40 PNG images of 4 classes, 16 x 12 px of noise around a grey that tells the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    files = []
    for label in labels:
        image = np.clip(60 * label + rng.normal(0, 10, (12, 16, 3)), 0, 255).astype("uint8")
        files.append(tf.io.encode_png(image).numpy())
    splits = {"train": slice(0, 32), "test": slice(32, 40)}

    def open_split(name):
        return tf.data.Dataset.from_tensor_slices(
            {"image": files[splits[name]], "label": labels[splits[name]].astype("int64")}
        )

    return ImageSource("greys", tuple("abcd"), {"train": 32, "test": 8}, open_split)


def make_tiny_network(recipe, num_classes, any_size=False, random=True):
    """A network with batch norm, dropout and drop path, which trains in milliseconds.

    Without `random`, nothing is dropped.
    """
    from keras_hybrid.layers import DropPath

    size = None if any_size else recipe.resolution
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Conv2D(4, 8, strides=8, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = DropPath(0.2 * random, name="drop_path")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.3 * random, name="dropout")(x)
    x = keras.layers.Dense(num_classes, name="fc")(x)
    x = keras.layers.Activation("softmax", name="predictions")(x)
    return keras.Model(image, x, name="tiny")


# 20 steps, with mixing, clipping, weight decay and the moving average.
DISTRIBUTED_RECIPE = dataclasses.replace(
    RECIPE,
    epochs=10,
    batch_size=16,
    mixup=0.8,
    cutmix=1.0,
    clip_norm=0.5,
    ema_momentum=0.9,
    weight_decay=0.05,
    finish_on="device",
    jit_compile=None,
)
