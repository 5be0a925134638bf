"""Resizing as PyTorch does it: to the size of another map, nearest or bilinear."""

import keras
import numpy as np
from keras import ops

INTERPOLATIONS = ("nearest", "bilinear", "bilinear_aligned")


def resize_bilinear(x, height, width):
    """Bilinear, half-pixel centers, no antialiasing: (batch, H, W, C) -> (batch, h, w, C)."""
    if keras.backend.backend() == "tensorflow" and not isinstance(height + width, int):
        import tensorflow as tf  # Keras compares the size with 0, which a graph cannot

        return tf.cast(tf.image.resize(x, tf.stack([height, width])), x.dtype)
    return ops.image.resize(
        x, (height, width), interpolation="bilinear", antialias=False, data_format="channels_last"
    )


def resize_bilinear_aligned(x, height, width):
    """Bilinear, the corners' pixels on each other: (batch, H, W, C) -> (batch, h, w, C).

    What PyTorch calls `align_corners=True`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # one operator on a phone

        size = tf.stack([height, width])
        return tf.cast(tf.compat.v1.image.resize_bilinear(x, size, align_corners=True), x.dtype)
    rows = _aligned_weights(x.shape[1], height, x.dtype)
    columns = _aligned_weights(x.shape[2], width, x.dtype)
    return ops.einsum("hH,bHWc,wW->bhwc", rows, x, columns)


def resize_nearest(x, height, width):
    """The pixel floor(i * H / h) of each row and column i: (batch, H, W, C) -> (batch, h, w, C).

    Keras' nearest takes the pixel at the center, which is another one unless h is a multiple of H.
    """
    old_height, old_width = ops.shape(x)[1:3]
    if all(isinstance(size, int) for size in (old_height, old_width, height, width)):
        if height % old_height == width % old_width == 0:
            return repeat_pixels(x, height // old_height, width // old_width)
        x = ops.take(x, np.arange(height) * old_height // height, axis=1)
        return ops.take(x, np.arange(width) * old_width // width, axis=2)
    x = ops.take(x, ops.arange(height) * old_height // height, axis=1)
    return ops.take(x, ops.arange(width) * old_width // width, axis=2)


def repeat_pixels(x, down: int, across: int):
    """Each pixel as a block of pixels: (batch, H, W, C) -> (batch, H * down, W * across, C).

    By concatenations, which each engine takes, in int8, too; TFLite's RESIZE_NEAREST_NEIGHBOR has
    no place in XNNPACK and cuts a file there. Of rank 4 all along: phones' GPUs know no more.
    """
    height, width, channels = x.shape[1:]
    if across > 1:
        x = ops.reshape(x, (-1, height * width, 1, channels))
        x = ops.concatenate([x] * across, axis=2)  # (batch, H * W, across, C)
    if down > 1:
        x = ops.reshape(x, (-1, height, 1, width * across * channels))
        x = ops.concatenate([x] * down, axis=2)  # (batch, H, down, W * across * C)
    return ops.reshape(x, (-1, height * down, width * across, channels))


def _aligned_weights(old, new, dtype):
    """(new, old): what each new pixel takes of the old ones."""
    place = np.arange(new) * ((old - 1) / max(new - 1, 1))
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(old)))
    return ops.convert_to_tensor(weights.astype("float32"), dtype)


_RESIZES = {
    "nearest": resize_nearest,
    "bilinear": resize_bilinear,
    "bilinear_aligned": resize_bilinear_aligned,
}


def resize(x, height: int, width: int, interpolation: str):
    """Resizes maps to a size.

    Args:
        x: (batch, H, W, C).
        height: of the result, in pixels.
        width: likewise.
        interpolation: "nearest"; "bilinear" with half-pixel centers; "bilinear_aligned" with the
            corners' pixels on each other (PyTorch's `align_corners`).

    Returns: (batch, height, width, C).

    Raises:
        ValueError: for another interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation` must be one of {INTERPOLATIONS}. "
            f"Received: interpolation={interpolation!r}"
        )
    return _RESIZES[interpolation](x, height, width)


@keras.saving.register_keras_serializable("keras_hybrid")
class ResizeToReference(keras.layers.Layer):
    """Resizes a map to the height and width of another one.

    Args:
        interpolation: as of `resize`.

    Inputs: a map (batch, H, W, C) and a reference (batch, h, w, ...). Output: (batch, h, w, C).
    """

    def __init__(self, interpolation: str = "bilinear", **kwargs):
        super().__init__(**kwargs)
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {INTERPOLATIONS}. "
                f"Received: interpolation={interpolation!r}"
            )
        self.interpolation = interpolation

    def call(self, inputs):
        x, reference = inputs
        height, width = ops.shape(reference)[1:3]
        return resize(x, height, width, self.interpolation)

    def compute_output_shape(self, input_shape):
        x, reference = input_shape
        return (x[0], reference[1], reference[2], x[3])

    def get_config(self):
        return {**super().get_config(), "interpolation": self.interpolation}
