"""Feature maps of a network for other heads: detection, segmentation."""

import keras

from keras_hybrid.keras_private import calls, producer
from keras_hybrid.layer_names import STEM, LayerName
from keras_hybrid.layers import PadToMultiple, UnfoldPatches

LEVELS = {2: "P1", 4: "P2", 8: "P3", 16: "P4", 32: "P5"}
_GLOBAL_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
_PADDING = (keras.layers.ZeroPadding2D, PadToMultiple)


def feature_pyramid(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The last feature map of each stride, named as KerasCV's backbones name them.

    Use it as `keras.Model(model.input, feature_pyramid(model))`.

    Args:
        model: a network of this package, built or loaded, with or without head; or any functional
            model whose maps shrink by convolutions and poolings of stride 2.

    Returns: {"P1": tensor, ..., "P5": tensor} of strides 2, 4, 8, 16 and 32, each
    (batch, H / stride, W / stride, channels); only the strides that a network with a smaller
    `output_stride` has.

    Raises:
        ValueError: for a model without maps of strides 2 to 8.
    """
    own, any_map = _maps(model)
    if own:
        # A stride at which no stage ends (iFormer's 2) is the stem's own.
        pyramid = dict(own.get(STEM, {}))
        for maps in own.values():
            stride = next(reversed(maps))  # where the stage ends
            pyramid[stride] = maps[stride]
    else:
        pyramid = any_map
    found = {level: pyramid[stride] for stride, level in LEVELS.items() if stride in pyramid}
    if not {"P1", "P2", "P3"} <= set(found):
        raise ValueError(
            "A functional model with feature maps of strides 2, 4, 8 and more is expected. "
            f"Received: model={model.name} with strides {sorted(pyramid)}"
        )
    return found


def pyramid_layers(model: keras.Model) -> dict[str, str]:
    """Names of the layers that end the levels of `feature_pyramid`.

    KerasCV's detectors look for them at the backbone:
    `backbone.pyramid_level_inputs = pyramid_layers(backbone)`.

    Args and errors are those of `feature_pyramid`.
    """
    return {level: producer(tensor).name for level, tensor in feature_pyramid(model).items()}


def feature_maps(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The map at the end of each stage, finest first: those of one stride apart, too.

    Args:
        model: as for `feature_pyramid`.

    Returns: by stage ("stem", "stage1", ...) for a network of this package, else by level
    ("P1", ...): (batch, height, width, channels) each.

    Raises:
        ValueError: as of `feature_pyramid`.
    """
    own, _ = _maps(model)
    if not own:
        return feature_pyramid(model)
    return {stage: maps[next(reversed(maps))] for stage, maps in own.items()}


def _maps(model):
    """stage -> {stride: its last map of it}, of a network of this package; and the same of all."""
    strides: dict[int, int] = {}  # of feature maps, by the id of their tensor
    own: dict[str, dict[int, keras.KerasTensor]] = {}
    any_map: dict[int, keras.KerasTensor] = {}
    for call in calls(model):
        operation = call.operation
        if isinstance(operation, keras.layers.InputLayer):
            strides[id(call.outputs[0])] = 1
            continue
        known = [strides[id(tensor)] for tensor in call.inputs if id(tensor) in strides]
        output = call.outputs[0]
        if not known or len(output.shape) != 4 or isinstance(operation, UnfoldPatches):
            continue
        if isinstance(
            operation, keras.layers.GlobalAveragePooling2D | keras.layers.GlobalMaxPooling2D
        ):
            continue
        stride = max(known) * _step(operation)
        for tensor in call.outputs:
            strides[id(tensor)] = stride
        if isinstance(operation, _PADDING):
            continue
        _last(any_map, stride, output)
        place = LayerName.parse(operation.name)
        if place is not None and (place.section == STEM or place.stage is not None):
            _last(own.setdefault(place.group, {}), stride, output)
    return own, any_map


def _last(maps, stride, tensor):
    """Puts a map at the end of a dict."""
    maps.pop(stride, None)
    maps[stride] = tensor


def _step(operation):
    """By how much an operation reduces height and width."""
    strides = getattr(operation, "strides", 1)
    return strides if isinstance(strides, int) else strides[0]
