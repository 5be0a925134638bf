"""Feature pyramid network: maps of several strides, each with what the coarser ones know."""

import keras
from keras import layers

from keras_hybrid.blocks import convolution
from keras_hybrid.layers import ResizeToReference

CHANNELS = 256


def feature_pyramid_network(
    maps: dict[str, keras.KerasTensor], channels: int = CHANNELS
) -> dict[str, keras.KerasTensor]:
    """Lateral 1x1 convolutions, the coarser map added from the top down, a 3x3 convolution each.

    No norm, no activation, as the detection libraries have it.

    Args:
        maps: by level ("P2", "P3", ...), the finest first: (batch, H, W, C) each.
        channels: of every map of the result.

    Returns: the same levels, (batch, H, W, channels) each, finest first.

    Raises:
        ValueError: for fewer than one map.

    Reference: Feature Pyramid Networks for Object Detection (https://arxiv.org/abs/1612.03144),
    Section 3.
    """
    if not maps:
        raise ValueError("At least one feature map is expected. Received: maps={}")
    merged = {
        level: _convolution(x, channels, 1, f"neck_{level.lower()}_lateral")
        for level, x in maps.items()
    }
    levels = list(merged)
    for fine, coarse in zip(levels[-2::-1], levels[:0:-1], strict=True):
        prefix = f"neck_{fine.lower()}"
        # Differs from `UpSampling2D`: maps of odd sizes are not half as large as the next finer.
        down = ResizeToReference("nearest", name=f"{prefix}_from_{coarse.lower()}")(
            [merged[coarse], merged[fine]]
        )
        merged[fine] = layers.Add(name=f"{prefix}_add")([merged[fine], down])
    return {
        level: _convolution(x, channels, 3, f"neck_{level.lower()}_output")
        for level, x in merged.items()
    }


def _convolution(x, channels, kernel_size, name):
    initializer = keras.initializers.GlorotUniform()
    return convolution(x, channels, kernel_size, name=name, initializer=initializer, use_bias=True)
