"""RandAugment as the published recipes have it: two operations of fifteen, each half the time.

Magnitude m9 with a standard deviation of 0.5 ("mstd0.5") and operations that all grow with it
("inc1"). Differs from Keras' `RandAugment`: that layer has other operations and ranges, no noise on
the magnitude, and draws that do not follow from an example's own seed.
"""

import math
from dataclasses import dataclass

import tensorflow as tf

from keras_hybrid.training.augmentation import color

LEVELS = 10.0
MAXIMUM_LEVEL = 10.0
APPLY_PROBABILITY = 0.5
FILL = (124.0, 116.0, 104.0)  # ImageNet's mean colour


@dataclass(frozen=True)
class RandAugment:
    """Numbers of RandAugment.

    Attributes:
        magnitude: m, from 0 to 10.
        magnitude_std: of the normal noise on it.
        num_operations: applied in a row.

    Reference: RandAugment (https://arxiv.org/abs/1909.13719).
    """

    magnitude: float
    magnitude_std: float = 0.5
    num_operations: int = 2


def affine(image, matrix, fill=FILL):
    """Moves pixels: output (x, y) is the input at matrix . (x, y, 1), bilinear.

    Args:
        image: float32 (H, W, 3).
        matrix: six numbers a b c d e f of x' = a x + b y + c, y' = d x + e y + f.
        fill: colour of what comes from outside.
    """
    # Outside, the difference to the fill is 0: the border is blended softly.
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=(image - tf.constant(fill))[None],
        transforms=tf.concat([tf.reshape(matrix, [1, 6]), tf.zeros([1, 2])], -1),
        output_shape=tf.shape(image)[:2],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )[0]
    return moved + tf.constant(fill)


def rotate(image, degrees):
    """Turns around the centre, counter-clockwise for positive degrees."""
    angle = degrees * (math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    shape = tf.cast(tf.shape(image), tf.float32)
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    matrix = [cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y]
    return affine(image, tf.stack(matrix))


def _matrix(*numbers):
    return tf.stack([tf.cast(number, tf.float32) for number in numbers])


def operations(image, level, sign):
    """The fifteen operations at a level from 0 to 10, by name.

    Args:
        image: float32 (H, W, 3), 0 to 255.
        level: strength.
        sign: 1 or -1, of those that have a direction.

    Returns: a dictionary from name to a function of no argument.
    """
    share = level / LEVELS
    factor = tf.maximum(0.1, 1 + sign * 0.9 * share)
    shape = tf.cast(tf.shape(image), tf.float32)
    bits = 4 - tf.cast(share * 4, tf.int32)
    return {
        "autocontrast": lambda: color.autocontrast(image),
        "equalize": lambda: color.equalize(image),
        "invert": lambda: color.invert(image),
        "rotate": lambda: rotate(image, sign * 30 * share),
        "posterize": lambda: color.posterize(image, bits),
        "solarize": lambda: color.solarize(image, tf.minimum(256.0, 256 - tf.floor(256 * share))),
        "solarize_add": lambda: color.solarize_add(image, tf.floor(110 * share)),
        "color": lambda: color.saturation(image, factor),
        "contrast": lambda: color.contrast(image, factor),
        "brightness": lambda: color.brightness(image, factor),
        "sharpness": lambda: color.sharpness(image, factor),
        "shear_x": lambda: affine(image, _matrix(1, sign * 0.3 * share, 0, 0, 1, 0)),
        "shear_y": lambda: affine(image, _matrix(1, 0, 0, sign * 0.3 * share, 1, 0)),
        "translate_x": lambda: affine(
            image, _matrix(1, 0, sign * 0.45 * share * shape[1], 0, 1, 0)
        ),
        "translate_y": lambda: affine(
            image, _matrix(1, 0, 0, 0, 1, sign * 0.45 * share * shape[0])
        ),
    }


NUM_OPERATIONS = 15


def rand_augment(image, numbers: RandAugment, seed):
    """Applies operations drawn at random.

    Args:
        image: float32 (H, W, 3), 0 to 255.
        numbers: magnitude, its noise, and how many operations.
        seed: two integers.

    Returns: float32 of the same shape, 0 to 255.
    """
    for position in range(numbers.num_operations):
        seeds = tf.random.split(tf.random.fold_in(seed, position), 3)
        level = numbers.magnitude + numbers.magnitude_std * tf.random.stateless_normal([], seeds[0])
        level = tf.clip_by_value(level, 0.0, MAXIMUM_LEVEL)
        draws = tf.random.stateless_uniform([2], seeds[1])
        sign = tf.where(draws[0] < 0.5, -1.0, 1.0)
        index = tf.random.stateless_uniform([], seeds[2], 0, NUM_OPERATIONS, tf.int32)
        index = tf.where(draws[1] < APPLY_PROBABILITY, index, NUM_OPERATIONS)
        branches = list(operations(image, level, sign).values())
        shape = image.shape
        image = tf.switch_case(index, [*branches, lambda image=image: image])
        image.set_shape(shape)
    return image
