"""Changes of brightness, contrast, saturation and sharpness, and of single values."""

import tensorflow as tf

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R 601, Pillow's


def blend(other, image, factor):
    """other + factor * (image - other), within 0 to 255: factor 1 leaves the image."""
    return tf.clip_by_value(other + factor * (image - other), 0.0, 255.0)


def grey(image):
    """The luma of an RGB image: (H, W, 1)."""
    return tf.reduce_sum(image * tf.constant(GREY_WEIGHTS), -1, keepdims=True)


def brightness(image, factor):
    """Blends with black."""
    return blend(tf.zeros_like(image), image, factor)


def contrast(image, factor):
    """Blends with the mean of the luma."""
    return blend(tf.reduce_mean(grey(image)), image, factor)


def saturation(image, factor):
    """Blends with the luma."""
    return blend(grey(image), image, factor)


def sharpness(image, factor):
    """Blends with a smoothed copy (3 x 3, centre weighs 5); the border stays."""
    kernel = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "VALID")[0]
    inside = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]])
    smooth = tf.where(inside > 0, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), image)
    return blend(smooth, image, factor)


def invert(image):
    """Swaps black and white."""
    return 255 - image


def solarize(image, threshold):
    """Inverts the values from the threshold on."""
    return tf.where(image < threshold, image, 255 - image)


def solarize_add(image, amount):
    """Adds to the values below 128."""
    return tf.where(image < 128, tf.minimum(image + amount, 255), image)


def posterize(image, bits):
    """Keeps the highest bits of each value: none for 0, which is black."""
    step = tf.cast(2 ** (8 - bits), tf.float32)
    return tf.floor(image / step) * step


def autocontrast(image):
    """Stretches each channel to 0 to 255."""
    low = tf.reduce_min(image, [0, 1], keepdims=True)
    high = tf.reduce_max(image, [0, 1], keepdims=True)
    stretched = (image - low) * 255 / tf.maximum(high - low, 1e-6)
    return tf.where(high > low, tf.floor(tf.clip_by_value(stretched + 1e-3, 0, 255)), image)


def equalize(image):
    """Makes each channel's histogram flat, as Pillow does."""

    def channel(values):
        histogram = tf.math.bincount(values, minlength=256, maxlength=256)
        filled = tf.boolean_mask(histogram, histogram > 0)
        step = (tf.reduce_sum(histogram) - filled[-1]) // 255
        before = tf.cumsum(histogram, exclusive=True)
        table = tf.clip_by_value((before + step // 2) // tf.maximum(step, 1), 0, 255)
        return tf.where(step > 0, tf.gather(table, values), values)

    values = tf.cast(tf.round(image), tf.int32)
    channels = [channel(tf.reshape(values[..., i], [-1])) for i in range(3)]
    equalized = tf.reshape(tf.stack(channels, -1), tf.shape(image))
    return tf.cast(equalized, tf.float32)


def color_jitter(image, strength: float, seed):
    """Brightness, contrast and saturation by factors uniform in 1 - strength to 1 + strength.

    Args:
        image: float32 (H, W, 3), 0 to 255.
        strength: 0 leaves the image.
        seed: two integers.

    The order is drawn, too.
    """
    if strength == 0:
        return image
    seeds = tf.random.split(seed, 2)
    factors = tf.random.stateless_uniform([3], seeds[0], 1 - strength, 1 + strength)
    order = tf.random.experimental.stateless_shuffle(tf.range(3), seeds[1])
    for position in range(3):
        index = order[position]
        image = tf.switch_case(
            index,
            [
                lambda image=image: brightness(image, factors[0]),
                lambda image=image: contrast(image, factors[1]),
                lambda image=image: saturation(image, factors[2]),
            ],
        )
    return image
