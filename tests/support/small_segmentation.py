"""Small data with masks, a small recipe and a small dense network, for tests of training."""

import keras
import numpy as np
import tensorflow as tf

from keras_hybrid.training.data.segmentation.segmentation_source import SegmentationSource
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe

CLASSES = ("nothing", "bright", "dark")
RECIPE = SegmentationRecipe(
    model="MobileViTXXS",
    resolution=64,
    epochs=2,
    batch_size=4,
    learning_rate=1e-2,
    resize_scale=(0.75, 1.5),
    distortion_probability=0.3,
    one_class_share=0.9,
    seed=7,
    jit_compile=False,
)


def make_masked_source(sizes=((40, 48), (52, 36)), train=16, test=4):
    """Grey noise with a bright and a dark square each, of one size or several, as PNG files."""
    random = np.random.default_rng(0)
    files, masks = [], []
    for index in range(train + test):
        height, width = sizes[index % len(sizes)]
        mask = np.zeros((height, width), "uint8")
        top, left = random.integers(0, 12, 2)
        mask[top : top + 16, left : left + 16] = 1
        mask[top + 18 : top + 30, left : left + 20] = 2
        mask[:2] = 255
        image = 128 + 90.0 * (mask == 1) - 90.0 * (mask == 2)
        image = image[..., None] + random.normal(0, 8, (height, width, 3))
        files.append(tf.io.encode_png(np.clip(image, 0, 255).astype("uint8")).numpy())
        masks.append(tf.io.encode_png(mask[..., None]).numpy())
    splits = {"train": slice(0, train), "test": slice(train, train + test)}

    def open_reader(split):
        images, labels = tf.constant(files[splits[split]]), tf.constant(masks[splits[split]])
        return lambda place: {"image": images[place], "mask": labels[place]}

    return SegmentationSource(
        "squares",
        CLASSES,
        {"train": train, "test": test},
        open_reader=open_reader,
        decode_mask=lambda example: tf.cast(
            tf.io.decode_png(example["mask"], channels=1)[..., 0], tf.int32
        ),
        image_size=sizes[0] if len(sizes) == 1 else None,
    )


def make_tiny_dense_network(recipe, num_classes, any_size=False):
    """Logits at stride 4, which train in milliseconds; layers are named as the package's."""
    size = None if any_size else recipe.resolution
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Conv2D(8, 5, strides=4, padding="same", name="stem_conv")(image)
    x = keras.layers.BatchNormalization(momentum=0.5, name="stem_norm")(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", name="head_conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.5, name="head_norm")(x)
    x = keras.layers.Conv2D(num_classes, 1, name="logits")(x)
    return keras.Model(image, x, name="tiny_dense")
