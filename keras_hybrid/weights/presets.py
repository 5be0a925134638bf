"""What a network expects of its images: size, crop, interpolation, value range, channel order."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.weights.families import family_of


@dataclass(frozen=True)
class Preprocessing:
    """How images become inputs.

    Attributes:
        resolution: height and width of the input, in pixels.
        crop_fraction: side of the central crop over the side that the image is resized to.
        interpolation: of that resize, "bilinear" or "bicubic".
        mean: subtracted from values in [0, 1], per channel in RGB order.
        std: what the difference is divided by.
        channel_order: "RGB" or "BGR", the order of the network's input channels.
    """

    resolution: int
    crop_fraction: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "RGB"


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

FAMILY_PREPROCESSING = {
    "mobile_former": Preprocessing(224, 0.875, "bilinear", _IMAGENET_MEAN, _IMAGENET_STD),
    "mobilevit": Preprocessing(256, 0.9, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "iformer": Preprocessing(224, 0.875, "bicubic", _IMAGENET_MEAN, _IMAGENET_STD),
}


def preprocessing_of(model: keras.Model | str | Preprocessing) -> Preprocessing:
    """The preprocessing of a model, of a builder's name, or of a family's name.

    Raises:
        ValueError: for a name that is neither.
    """
    if isinstance(model, Preprocessing):
        return model
    if isinstance(model, str):
        plain = model.lower().replace("_", "").replace("-", "")
        for family, preprocessing in FAMILY_PREPROCESSING.items():
            if plain.startswith(family.replace("_", "")):
                return preprocessing
        raise ValueError(
            f"`model` must be a model, a builder's name or one of {tuple(FAMILY_PREPROCESSING)}. "
            f"Received: model={model!r}"
        )
    return FAMILY_PREPROCESSING[family_of(model)]


def preprocess_input(x, model: keras.Model | str | Preprocessing):
    """Turns RGB images of values 0 to 255 into the input of a model.

    Args:
        x: (..., H, W, 3), RGB, 0 to 255, an array or tensor of any number type.
        model: the model, its builder's name, or a `Preprocessing`.

    Returns: float32 of x's shape, an array for an array and a tensor for a tensor.

    Raises:
        ValueError: for another number of channels, or an unknown model.
    """
    preprocessing = preprocessing_of(model)
    if x.shape[-1] != 3:
        raise ValueError(f"Images need 3 channels, last. Received: shape {tuple(x.shape)}")
    scale = 1 / (255 * np.asarray(preprocessing.std))
    offset = -np.asarray(preprocessing.mean) / np.asarray(preprocessing.std)
    if isinstance(x, np.ndarray):
        x = x.astype("float32") * scale.astype("float32") + offset.astype("float32")
    else:
        x = keras.ops.cast(x, "float32") * scale.astype("float32") + offset.astype("float32")
    return x[..., ::-1] if preprocessing.channel_order == "BGR" else x
