"""Photometric distortion: brightness, contrast, saturation and hue, as dense systems train with."""

from dataclasses import dataclass

import tensorflow as tf

FACTORS = (0.5, 1.5)  # of contrast and of saturation


@dataclass(frozen=True)
class Distortion:
    """How much is changed at most.

    Attributes:
        brightness: added or taken, of 255.
        hue: of a turn, either way.
        shuffles: whether channels change places, too.
    """

    brightness: float
    hue: float
    shuffles: bool = False


MMSEGMENTATION = Distortion(brightness=32.0, hue=18 / 180)  # its PhotoMetricDistortion
CVNETS = Distortion(brightness=0.2 * 255, hue=0.05 * 255 / 180, shuffles=True)  # for SSD


def photometric_distortion(image, probability: float, seed, amounts: Distortion = MMSEGMENTATION):
    """Changes brightness, contrast, saturation and hue, each with the given probability.

    Contrast comes after brightness or at the end, as is drawn. Contrast multiplies: it does not
    keep the mean.

    Args:
        image: float32 (H, W, 3), 0 to 255.
        probability: of each change; 0 leaves the image.
        seed: two integers.
        amounts: of the changes.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2.
    """
    if probability == 0:
        return image
    draws = tf.random.stateless_uniform([9], seed)
    is_on = draws[:4] < probability
    added = (draws[4] * 2 - 1) * amounts.brightness
    contrast, saturation = tf.unstack(FACTORS[0] + draws[5:7] * (FACTORS[1] - FACTORS[0]))
    hue = (draws[7] * 2 - 1) * amounts.hue
    contrast_first = draws[8] < 0.5

    def changed(x, condition, change):
        return tf.cond(condition, lambda: tf.clip_by_value(change(x), 0.0, 255.0), lambda: x)

    x = changed(image, is_on[0], lambda x: x + added)
    x = changed(x, is_on[1] & contrast_first, lambda x: x * contrast)
    x = changed(x, is_on[2], lambda x: tf.image.adjust_saturation(x / 255, saturation) * 255)
    x = changed(x, is_on[3], lambda x: tf.image.adjust_hue(x / 255, hue) * 255)
    x = changed(x, is_on[1] & ~contrast_first, lambda x: x * contrast)
    if not amounts.shuffles:
        return x
    draws = tf.random.stateless_uniform([4], tf.random.fold_in(seed, 1))
    order = tf.where(draws[3] < probability, tf.argsort(draws[:3]), tf.range(3))
    return tf.gather(x, order, axis=-1)
