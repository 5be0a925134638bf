"""RandAugment as the published recipes have it: two operations of fifteen, each half the time.

Magnitude m9 with a standard deviation of 0.5 ("mstd0.5"), and operations that all grow with it
("inc1") or not: in the plain list, posterize and solarize do less the higher it is, and colours are
always strengthened. Differs from Keras' `RandAugment`: that layer has other operations and ranges,
no noise on the magnitude, and draws that do not follow from an example's own seed.
"""

import functools
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
        increasing: whether all operations grow with the magnitude.
        interpolation: of moved pixels: "bilinear", "bicubic", or "random" for one of both.

    Reference: RandAugment (https://arxiv.org/abs/1909.13719).
    """

    magnitude: float
    magnitude_std: float = 0.5
    num_operations: int = 2
    increasing: bool = True
    interpolation: str = "bilinear"


def affine(image, matrix, fill=FILL, interpolation: str = "bilinear"):
    """Moves pixels: output (x, y) is the input at matrix . (x, y, 1).

    Args:
        image: float32 (H, W, 3).
        matrix: six numbers a b c d e f of x' = a x + b y + c, y' = d x + e y + f.
        fill: colour of what comes from outside.
        interpolation: "bilinear" or "bicubic".
    """
    if interpolation == "bicubic":
        return _bicubic(image, matrix, fill)
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


def _bicubic(image, matrix, fill):
    """As Pillow does: Keys' kernel with a = -0.5 over 4 x 4 pixels, the border's repeated."""
    height, width = tf.unstack(tf.shape(image)[:2])
    x = tf.cast(tf.range(width), tf.float32)[None]
    y = tf.cast(tf.range(height), tf.float32)[:, None]
    a, b, c, d, e, f = tf.unstack(tf.reshape(matrix, [6]))
    x, y = a * x + b * y + c, d * x + e * y + f  # (H, W) both
    inside = (x >= -0.5) & (x < tf.cast(width, tf.float32) - 0.5)
    inside &= (y >= -0.5) & (y < tf.cast(height, tf.float32) - 0.5)
    left, top = tf.floor(x), tf.floor(y)
    columns, column_weights = _taps(left, x - left, width)
    rows, row_weights = _taps(top, y - top, height)
    moved = tf.zeros_like(image)
    flat = tf.reshape(image, [-1, 3])
    for row, row_weight in zip(rows, row_weights, strict=True):
        for column, column_weight in zip(columns, column_weights, strict=True):
            pixels = tf.gather(flat, row * width + column)
            moved += (row_weight * column_weight)[..., None] * pixels
    moved = tf.clip_by_value(moved, 0.0, 255.0)
    return tf.where(inside[..., None], moved, tf.constant(fill))


def _taps(start, share, size):
    """Places and weights of the four pixels around a point, along one axis."""
    start = tf.cast(start, tf.int32)
    places = [tf.clip_by_value(start + offset, 0, size - 1) for offset in (-1, 0, 1, 2)]
    return places, [_far(1 + share), _near(share), _near(1 - share), _far(2 - share)]


def _near(distance):
    """Weight of a pixel up to 1 away, by Keys' kernel with a = -0.5."""
    return (1.5 * distance - 2.5) * distance * distance + 1


def _far(distance):
    """Weight of a pixel 1 to 2 away."""
    return ((-0.5 * distance + 2.5) * distance - 4) * distance + 2


def rotate(image, degrees, move=affine):
    """Turns around the centre, counter-clockwise for positive degrees."""
    angle = degrees * (math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    shape = tf.cast(tf.shape(image), tf.float32)
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    matrix = [cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y]
    return move(image, tf.stack(matrix))


def _matrix(*numbers):
    return tf.stack([tf.cast(number, tf.float32) for number in numbers])


def operations(image, level, sign, increasing: bool = True, move=affine):
    """The fifteen operations at a level from 0 to 10, by name.

    Args:
        image: float32 (H, W, 3), 0 to 255.
        level: strength.
        sign: 1 or -1, of those that have a direction.
        increasing: whether all grow with the level.
        move: `affine`, or like it with another interpolation.

    Returns: a dictionary from name to a function of no argument.
    """
    share = level / LEVELS
    shape = tf.cast(tf.shape(image), tf.float32)
    bits, threshold = tf.cast(share * 4, tf.int32), tf.floor(256 * share)
    if increasing:
        factor = tf.maximum(0.1, 1 + sign * 0.9 * share)
        bits, threshold = 4 - bits, tf.minimum(256.0, 256 - threshold)
    else:
        factor = 1.8 * share + 0.1
    return {
        "autocontrast": lambda: color.autocontrast(image),
        "equalize": lambda: color.equalize(image),
        "invert": lambda: color.invert(image),
        "rotate": lambda: rotate(image, sign * 30 * share, move),
        "posterize": lambda: color.posterize(image, bits),
        "solarize": lambda: color.solarize(image, threshold),
        "solarize_add": lambda: color.solarize_add(image, tf.floor(110 * share)),
        "color": lambda: color.saturation(image, factor),
        "contrast": lambda: color.contrast(image, factor),
        "brightness": lambda: color.brightness(image, factor),
        "sharpness": lambda: color.sharpness(image, factor),
        "shear_x": lambda: move(image, _matrix(1, sign * 0.3 * share, 0, 0, 1, 0)),
        "shear_y": lambda: move(image, _matrix(1, 0, 0, sign * 0.3 * share, 1, 0)),
        "translate_x": lambda: move(image, _matrix(1, 0, sign * 0.45 * share * shape[1], 0, 1, 0)),
        "translate_y": lambda: move(image, _matrix(1, 0, 0, 0, 1, sign * 0.45 * share * shape[0])),
    }


def _mover(interpolation, draw):
    """`affine` with an interpolation; "random" takes that which a draw from 0 to 1 says."""
    if interpolation != "random":
        return functools.partial(affine, interpolation=interpolation)

    def move(image, matrix):
        return tf.cond(
            draw < 0.5,
            lambda: affine(image, matrix),
            lambda: affine(image, matrix, interpolation="bicubic"),
        )

    return move


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
        move = _mover(numbers.interpolation, draws[1] / APPLY_PROBABILITY)
        branches = operations(image, level, sign, numbers.increasing, move).values()
        branches = list(branches)
        shape = image.shape
        image = tf.switch_case(index, [*branches, lambda image=image: image])
        image.set_shape(shape)
    return image
