"""Small data with boxes, a small recipe and a small detector, for tests of training."""

import keras
import numpy as np
import tensorflow as tf

import keras_hybrid
from keras_hybrid.training.data.detection.detection_source import DetectionSource
from keras_hybrid.training.recipe.detection import DetectionRecipe
from keras_hybrid.training.recipe.instances import InstanceRecipe

CLASSES = ("bright", "dark")
RECIPE = DetectionRecipe(
    model="MobileViTXXS",
    resolution=64,
    epochs=2,
    batch_size=4,
    learning_rate=3e-3,
    distortion_probability=0.2,
    max_objects=4,
    seed=7,
    jit_compile=False,
)
INSTANCE_RECIPE = InstanceRecipe(
    model="MobileViTXXS",
    head_options={
        "channels": 8,
        "box_units": 16,
        "mask_convolutions": 1,
        "max_proposals": 20,
        "max_detections": 6,
    },
    resolution=64,
    epochs=2,
    batch_size=4,
    learning_rate=3e-3,
    max_objects=4,
    candidates=40,
    regions=12,
    positive_regions=4,
    seed=7,
    jit_compile=False,
)


def make_boxed_source(sizes=((40, 48), (64, 36)), train=16, test=4, empty=1, masks=False):
    """Grey noise with a bright and a dark square each, the last `empty` without, as PNG files.

    With masks, the squares have holes.
    """
    random = np.random.default_rng(0)
    files, boxes = [], []
    for index in range(train + test):
        height, width = sizes[index % len(sizes)]
        image = np.full((height, width, 3), 128.0)
        found = []
        if not train - empty <= index < train:
            top, left = random.integers(0, 6, 2)
            for color, y in ((220, top), (30, top + 18)):
                image[y : y + 16, left : left + 20] = color
                if masks:
                    image[y + 4 : y + 12, left + 5 : left + 15] = 128
                found.append([left, y, left + 20, y + 16])
        image += random.normal(0, 8, image.shape)
        files.append(tf.io.encode_png(np.clip(image, 0, 255).astype("uint8")).numpy())
        shares = np.reshape(found, (-1, 4)) / np.array([width, height] * 2)
        boxes.append(shares.astype("float32"))
    boxes = tf.ragged.constant(boxes, dtype=tf.float32, ragged_rank=1, inner_shape=(4,))
    splits = {"train": 0, "test": train}

    def open_reader(split):
        start, images = splits[split], tf.constant(files)

        def read(place):
            found = boxes[start + place]
            count = tf.shape(found)[0]
            picture = tf.io.decode_png(images[start + place], 3)
            more = {"masks": _masks_of(found, tf.shape(picture))} if masks else {}
            return {
                **more,
                "image": images[start + place],
                "boxes": found,
                "labels": tf.range(tf.cast(count, tf.int64)),
                "crowd": tf.zeros([count], tf.bool),
                "areas": tf.fill([count], float("nan")),
            }

        return read

    return DetectionSource(
        "squares",
        CLASSES,
        {"train": train, "test": test},
        open_reader=open_reader,
        has_masks=masks,
    )


def _masks_of(boxes, shape):
    """Squares with holes: where in their boxes pixels' centers are."""
    y, x = tf.meshgrid(tf.range(shape[0]), tf.range(shape[1]), indexing="ij")
    y, x = (tf.cast(a, tf.float32)[None] + 0.5 for a in (y, x))
    side = tf.cast(tf.stack([shape[1], shape[0]] * 2), tf.float32)
    x1, y1, x2, y2 = (a[:, None, None] for a in tf.unstack(boxes * side, axis=1))
    square = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    hole = (x > x1 + 5) & (x < x2 - 5) & (y > y1 + 4) & (y < y2 - 4)
    return tf.cast(square & ~hole, tf.uint8)


def make_tiny_detector(recipe, num_classes, size=None):
    """A head of the package on five convolutions, which train in milliseconds."""
    backbone = small_trunk(size or (recipe.resolution, recipe.resolution))
    return getattr(keras_hybrid, recipe.head)(backbone, num_classes, **recipe.head_options)


def small_trunk(size):
    """Five convolutions of stride 2, for images of a height and width, or of any."""
    x = image = keras.Input((*size, 3), name="image")
    for index in range(5):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(8, 3, strides=2, name=f"stem_conv{index}")(x)
        x = keras.layers.BatchNormalization(momentum=0.5, name=f"stem_norm{index}")(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(image, x, name="small")


def write_scenes(folder, count=8, size=64, splits=("train", "valid")):
    """Scenes of digits as YOLO's folder, the same ones in each split."""
    from PIL import Image

    from keras_hybrid.training.data.digit_scenes.scenes import CLASS_NAMES, digit_scenes

    for split in splits:
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number, scene in enumerate(digit_scenes(count, size)):
            Image.fromarray(scene.image).save(folder / "images" / split / f"{number}.png")
            lines = [
                f"{label} {(x1 + x2) / 2 / size} {(y1 + y2) / 2 / size} "
                f"{(x2 - x1) / size} {(y2 - y1) / size}\n"
                for label, (x1, y1, x2, y2) in zip(scene.labels, scene.boxes, strict=True)
            ]
            (folder / "labels" / split / f"{number}.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES))
    return folder
