"""Feature maps of a network for other heads: detection, segmentation."""

import keras

from keras_hybrid.keras_private import calls
from keras_hybrid.layer_names import STEM, LayerName
from keras_hybrid.layers import PadToMultiple, UnfoldPatches

_LEVELS = {2: "P1", 4: "P2", 8: "P3", 16: "P4", 32: "P5"}
_PADDING = (keras.layers.ZeroPadding2D, PadToMultiple)


def feature_pyramid(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The last feature map of each stride, named as KerasCV's backbones name them.

    Use it as `keras.Model(model.input, feature_pyramid(model))`.

    Args:
        model: a network of this package, built or loaded, with or without head.

    Returns: {"P1": tensor, ..., "P5": tensor} of strides 2, 4, 8, 16 and 32, each
    (batch, H / stride, W / stride, channels).

    Raises:
        ValueError: for a model that is none of this package's.
    """
    strides: dict[int, int] = {}  # feature maps, by the id of their tensor
    ends: dict[str, tuple] = {}  # stage -> its last feature map, and that one's stride
    # Stage -> stride -> last feature map of it that is no padding.
    maps: dict[str, dict[int, keras.KerasTensor]] = {}
    for call in calls(model):
        operation = call.operation
        if isinstance(operation, keras.layers.InputLayer):
            strides[id(call.outputs[0])] = 1
            continue
        known = [strides[id(tensor)] for tensor in call.inputs if id(tensor) in strides]
        output = call.outputs[0]
        if not known or len(output.shape) != 4 or isinstance(operation, UnfoldPatches):
            continue
        stride = max(known) * _step(operation)
        for tensor in call.outputs:
            strides[id(tensor)] = stride
        place = LayerName.parse(operation.name)
        if place is None or not (place.section == STEM or place.stage is not None):
            continue
        if not isinstance(operation, _PADDING):
            ends[place.group] = (output, stride)
            maps.setdefault(place.group, {})[stride] = output
    # A stride at which no stage ends (iFormer's 2) is the stem's own.
    pyramid = dict(maps.get(STEM, {})) | {stride: tensor for tensor, stride in ends.values()}
    if not set(_LEVELS) <= set(pyramid):
        raise ValueError(
            "A network of this package with feature maps of strides 2 to 32 is expected. "
            f"Received: model={model.name} with strides {sorted(pyramid)}"
        )
    return {level: pyramid[stride] for stride, level in _LEVELS.items()}


def _step(operation):
    """By how much an operation reduces height and width."""
    strides = getattr(operation, "strides", 1)
    return strides if isinstance(strides, int) else strides[0]
