"""The published evaluation protocol on one image: resize the shorter side, cut out the centre."""

import math

import keras

from keras_hybrid.weights.presets import Preprocessing, Preset, preprocessing_of


def evaluation_image(
    image, model: keras.Model | str | Preset | Preprocessing, resolution: int | None = None
):
    """Resizes and crops an image as the published accuracy was measured.

    The shorter side becomes floor(resolution / crop_fraction) pixels, with the preset's
    interpolation and antialiasing; then the central square is cut out. Agrees with PIL's `resize`
    and torchvision's `Resize` and `CenterCrop` to within one level out of 255 (two in rare ties):
    horizontally, then vertically, each pass rounded and clipped as PIL does. Works eagerly
    and in `tf.data`.

    Args:
        image: (H, W, 3), RGB, 0 to 255, an array or a TensorFlow tensor of any number type.
        model: whose protocol: anything that `preprocessing_of` takes.
        resolution: side of the square; None for the preset's.

    Returns: a TensorFlow tensor (resolution, resolution, 3), float32 of whole values 0 to 255;
        `preprocess_input` makes it a network's input.

    Raises:
        ValueError: for an image of another shape, an unknown model, or a resolution under 1.
    """
    import tensorflow as tf

    preprocessing = preprocessing_of(model)
    resolution = preprocessing.resolution if resolution is None else resolution
    if not isinstance(resolution, int) or resolution < 1:
        raise ValueError(
            f"`resolution` must be a positive integer. Received: resolution={resolution!r}"
        )
    image = tf.convert_to_tensor(image)
    if image.shape.rank != 3 or image.shape[-1] != 3:
        raise ValueError(f"An image (H, W, 3) is expected. Received: shape {tuple(image.shape)}")
    # The small addition keeps 256 / (256 / 288) at 288.
    shorter = math.floor(resolution / preprocessing.crop_fraction + 1e-6)
    size = tf.shape(image)[:2]
    size = size * shorter // tf.reduce_min(size)
    for target in ((tf.shape(image)[0], size[1]), size):
        image = tf.image.resize(image, target, preprocessing.interpolation, antialias=True)
        image = tf.clip_by_value(tf.floor(image + 0.5), 0.0, 255.0)  # PIL rounds half up
    # As torchvision: half the rest, rounded half to even.
    top, left = tf.unstack(tf.cast(tf.round((size - resolution) / 2), "int32"))
    image = image[top : top + resolution, left : left + resolution]
    return tf.ensure_shape(image, (resolution, resolution, 3))
