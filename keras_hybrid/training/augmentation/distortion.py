"""Photometric distortion: brightness, contrast, saturation and hue, as dense systems train with."""

import tensorflow as tf

BRIGHTNESS = 32.0  # added, of 255
FACTORS = (0.5, 1.5)  # of contrast and of saturation
HUE = 18 / 180  # of a turn


def photometric_distortion(image, probability: float, seed):
    """Changes brightness, contrast, saturation and hue, each with the given probability.

    Contrast comes after brightness or at the end, as is drawn. Contrast multiplies: it does not
    keep the mean.

    Args:
        image: float32 (H, W, 3), 0 to 255.
        probability: of each change; 0 leaves the image.
        seed: two integers.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2; the amounts are those of
    MMSegmentation's PhotoMetricDistortion.
    """
    if probability == 0:
        return image
    draws = tf.random.stateless_uniform([9], seed)
    is_on = draws[:4] < probability
    added = (draws[4] * 2 - 1) * BRIGHTNESS
    contrast, saturation = tf.unstack(FACTORS[0] + draws[5:7] * (FACTORS[1] - FACTORS[0]))
    hue = (draws[7] * 2 - 1) * HUE
    contrast_first = draws[8] < 0.5

    def changed(x, condition, change):
        return tf.cond(condition, lambda: tf.clip_by_value(change(x), 0.0, 255.0), lambda: x)

    x = changed(image, is_on[0], lambda x: x + added)
    x = changed(x, is_on[1] & contrast_first, lambda x: x * contrast)
    x = changed(x, is_on[2], lambda x: tf.image.adjust_saturation(x / 255, saturation) * 255)
    x = changed(x, is_on[3], lambda x: tf.image.adjust_hue(x / 255, hue) * 255)
    return changed(x, is_on[1] & ~contrast_first, lambda x: x * contrast)
