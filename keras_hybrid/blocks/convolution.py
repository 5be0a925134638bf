"""Convolutions as the published networks have them: symmetric padding, no bias, then batch norm."""

import keras
from keras import layers

from keras_hybrid.layers import GroupedConv2D

# PyTorch's epsilon, and its momentum of 0.1 in Keras' sense.
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9


def batch_norm(x, name: str):
    """Batch normalisation with the constants all three families were trained with."""
    return layers.BatchNormalization(
        epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name
    )(x)


def convolution(
    x,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    initializer: keras.initializers.Initializer,
    strides: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    dilation: int = 1,
):
    """Convolution padded by dilation * (kernel_size // 2) on every side.

    Args:
        x: (batch, H, W, channels).
        filters: number of output channels.
        kernel_size: height and width of the kernel, in pixels.
        name: of the convolution; its padding layer is called `{name}_pad`.
        initializer: a new initialiser for the kernel (one shared by two layers would give both
            the same values).
        strides: step along height and width, in pixels.
        groups: groups of channels convolved apart.
        use_bias: whether there is a bias.
        dilation: distance between the kernel's taps, in pixels; over 1 only where `strides` is 1.

    Returns: (batch, ceil(H / strides), ceil(W / strides), filters) for odd kernels.
    """
    x, padding = _pad(x, kernel_size, strides, name)
    layer = GroupedConv2D if groups > 1 else layers.Conv2D
    return layer(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        groups=groups,
        dilation_rate=dilation,
        use_bias=use_bias,
        data_format="channels_last",
        kernel_initializer=initializer,
        name=name,
    )(x)


def depthwise_convolution(
    x,
    kernel_size: int,
    *,
    name: str,
    initializer: keras.initializers.Initializer,
    strides: int = 1,
    expansion: int = 1,
    dilation: int = 1,
):
    """Depthwise convolution without bias, padded by dilation * (kernel_size // 2) on every side.

    Args:
        x: (batch, H, W, channels).
        kernel_size: height and width of the kernel, in pixels.
        name: of the convolution; its padding layer is called `{name}_pad`.
        initializer: a new initialiser for the kernel.
        strides: step along height and width, in pixels.
        expansion: output channels per input channel.
        dilation: distance between the kernel's taps, in pixels; over 1 only where `strides` is 1.

    Returns: (batch, ceil(H / strides), ceil(W / strides), channels * expansion).
    """
    x, padding = _pad(x, kernel_size, strides, name)
    return layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding=padding,
        depth_multiplier=expansion,
        dilation_rate=dilation,
        use_bias=False,
        data_format="channels_last",
        depthwise_initializer=initializer,
        name=name,
    )(x)


def _pad(x, kernel_size, strides, name):
    """Pads for a strided kernel. Keras' "same" would pad even sizes on the right only."""
    if strides == 1 or kernel_size == 1:
        return x, "same"
    if kernel_size == strides:  # patchify: patches meet without overlap
        return x, "valid"
    padding = layers.ZeroPadding2D(
        kernel_size // 2, data_format="channels_last", name=f"{name}_pad"
    )
    return padding(x), "valid"
