"""Pixels of 0 to 255 straight in: scale and channel order go into the first convolution."""

import keras
import numpy as np

from keras_hybrid.layers import GlobalTokens
from keras_hybrid.surgery.affine import is_affine
from keras_hybrid.surgery.editable_model import EditableModel, Step, Value, new_step


def edit_preprocessing(model: EditableModel, mean, std, channel_order: str) -> bool:
    """Has the model take RGB images of values 0 to 255.

    The factors and the channel order go into the first convolution. The mean stays a subtraction
    of its own, because zero padding comes between: it stands for the mean, not for black.

    Args:
        model: whose input is what `(pixel / 255 - mean) / std` gives.
        mean: per channel, in RGB order, for values in [0, 1].
        std: likewise.
        channel_order: "RGB" or "BGR", the order the model expects.

    Returns: whether the model starts with a convolution, so that it could be done.
    """
    image = model.inputs
    convolution = first_convolution(model, image)
    if (
        not is_affine(model, convolution)
        or not convolution.is_a(keras.layers.Conv2D)
        or convolution.setting("groups") != 1
        or convolution.inputs[0].shape[-1] != len(mean)
    ):
        return False
    kernel = convolution.edit().weights["kernel"]
    if channel_order == "BGR":
        kernel = kernel[:, :, ::-1]
    factor = 1 / (255 * np.asarray(std))
    convolution.weights["kernel"] = (kernel * factor[:, None]).astype("float32")
    if np.any(mean):
        layer = keras.layers.Rescaling(
            1.0, offset=[-255.0 * float(m) for m in mean], name="preprocessing_mean"
        )
        step = new_step(layer, [image], image.shape)
        model.interpose(image, step)
    return True


def first_convolution(model: EditableModel, image: Value) -> Step | None:
    """The step that alone computes with the image, after zero padding or not; None for several.

    Global tokens ask images for nothing but how many there are.
    """
    readers = [step for step in model.consumers(image) if not step.is_a(GlobalTokens)]
    if len(readers) != 1 or model.is_output(image):
        return None
    if readers[0].is_a(keras.layers.ZeroPadding2D):
        return model.only_consumer(readers[0].output)
    return readers[0]
