"""What a model's image input takes: pixels, because it scales them itself, or scaled values."""

import keras
import numpy as np

from keras_hybrid.export.metadata import Normalization
from keras_hybrid.keras_private import calls, functional
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocessing_of

# Layers that leave pixels pixels, before one that scales them.
_BESIDE = (
    keras.layers.InputLayer,
    keras.layers.ZeroPadding2D,
    keras.layers.Resizing,
    keras.layers.CenterCrop,
    keras.layers.Cropping2D,
    keras.layers.Identity,
    keras.layers.Dropout,
)
_SCALING_OPERATIONS = ("TrueDivide", "Divide", "Multiply")
LARGEST_SCALED = 16.0  # scaled images lie well below, pixels of 0 to 255 above


def own_scaling(model: keras.Model) -> str | None:
    """Name of the layer or operation that scales pixels inside of the model; None without one.

    What scales comes first: a `Rescaling` or `Normalization` layer or a product with a constant,
    after padding, resizing or augmentation, and inside of nested models. One whose results are as
    large as pixels does not count.

    Args:
        model: of one input or several.
    """
    graph = functional(model)
    if graph is None:
        return None
    followed = {id(tensor) for tensor in graph.inputs}
    for call in calls(graph):
        if not any(id(tensor) in followed for tensor in call.inputs):
            continue
        operation = call.operation
        if _scales(call):
            return operation.name
        if isinstance(operation, keras.Model):
            inner = own_scaling(operation)
            if inner is not None:
                return inner
            continue
        kind = type(operation).__name__
        if isinstance(operation, _BESIDE) or kind == "Cast" or kind.startswith("Random"):
            followed.update(id(tensor) for tensor in call.outputs)
    return None


def _scales(call):
    """Whether a call makes scaled values of pixels."""
    operation = call.operation
    if isinstance(operation, keras.layers.Rescaling):
        scaled = 255 * np.asarray(operation.scale) + np.asarray(operation.offset)
        return float(np.max(np.abs(scaled))) <= LARGEST_SCALED
    if isinstance(operation, keras.layers.Normalization):
        mean, variance = (
            np.asarray(keras.ops.convert_to_numpy(x)) for x in (operation.mean, operation.variance)
        )
        return float(np.max(np.abs((255 - mean) / np.sqrt(variance + 1e-7)))) <= LARGEST_SCALED
    if type(operation).__name__ not in _SCALING_OPERATIONS or len(call.inputs) != 1:
        return False
    args, kwargs = call.args_and_kwargs
    constants = [
        float(np.max(np.abs(np.asarray(x))))
        for x in (*args, *kwargs.values())
        if x is not None and not keras.utils.is_keras_tensor(x)
    ]
    if len(constants) != 1:
        return False
    factor = constants[0] if type(operation).__name__ == "Multiply" else 1 / constants[0]
    return 255 * factor <= LARGEST_SCALED


def _was_shown_pixels(model):
    """Whether a quantised model's image had values as large as pixels in calibration."""
    image = next(iter(fake_quantizers(model)), None)
    seen = None if image is None else image.seen_range
    return seen is not None and seen[1] > LARGEST_SCALED


def left_to_do(model: keras.Model, inside: Preprocessing | None) -> Normalization | None:
    """What an app has to do with pixels of 0 to 255 before it gives them to the file.

    Args:
        model: that the file is made of.
        inside: the preprocessing that the file does; None for none.

    Returns: None where it is not known.
    """
    if inside is not None or own_scaling(model) is not None or _was_shown_pixels(model):
        return Normalization((0.0,), (1.0,))
    try:
        known = preprocessing_of(model)
    except ValueError:  # none of this package's: nothing is known
        return None
    mean, std = (tuple(255 * float(x) for x in values) for values in (known.mean, known.std))
    return Normalization(mean, std)


def channel_order(model: keras.Model) -> str:
    """The order of the image's channels that a model takes; "RGB" where nobody says."""
    try:
        return preprocessing_of(model).channel_order
    except ValueError:  # none of this package's
        return "RGB"
