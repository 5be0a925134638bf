"""Separable, transposed and one-dimensional convolutions, as convolutions of maps."""

import keras
import numpy as np
from keras import layers

from keras_hybrid.layers import DepthToSpace
from keras_hybrid.quantization.standard_layers.steps import step_of, weights_of
from keras_hybrid.surgery.editable_model import Step


def separable(step: Step) -> list[Step] | None:
    """A depthwise convolution, and one of 1 x 1 pixels."""
    if step.setting("data_format") != "channels_last":
        return None
    weights = weights_of(step)
    depthwise = layers.DepthwiseConv2D(
        step.setting("kernel_size"),
        strides=step.setting("strides"),
        padding=step.setting("padding"),
        dilation_rate=step.setting("dilation_rate"),
        depth_multiplier=step.setting("depth_multiplier"),
        use_bias=False,
        data_format="channels_last",
        dtype="float32",
        name=f"{step.name}_depthwise",
    )
    first = step_of(depthwise, step.inputs[0], {"kernel": weights["depthwise_kernel"]})
    pointwise = layers.Conv2D(
        step.setting("filters"),
        1,
        use_bias=step.setting("use_bias"),
        activation=step.operation.activation,
        data_format="channels_last",
        dtype="float32",
        name=step.name,
    )
    rest = {"kernel": weights["pointwise_kernel"]}
    if step.setting("use_bias"):
        rest["bias"] = weights["bias"]
    return [first, step_of(pointwise, first.output, rest)]


def transposed(step: Step) -> list[Step] | None:
    """A convolution that gives the pixels of a block as channels, and these spread over the block.

    With stride s, output s m + r is made of the inputs m - j and the kernel's values r + s j alone.
    So r, row and column, tells which of s * s ordinary convolutions a pixel belongs to; and unlike
    a transposed convolution's, their kernels have a scale for each channel.
    """
    stride, kernel_size = step.setting("strides"), step.setting("kernel_size")
    shape = step.inputs[0].shape
    if (
        step.setting("data_format") != "channels_last"
        or len(set(stride)) > 1
        or set(step.setting("dilation_rate")) != {1}
        or step.setting("output_padding") is not None
        or None in shape[1:]
    ):
        return None
    size = stride[0]
    weights = weights_of(step)
    reach = [-(-k // size) for k in kernel_size]  # inputs that an output is made of, by axis
    channels, filters = shape[-1], step.setting("filters")
    kernel = np.zeros((*reach, channels, size, size, filters), "float32")
    for row in range(kernel_size[0]):
        for column in range(kernel_size[1]):
            (down, top), (right, left) = divmod(row, size), divmod(column, size)
            taps = weights["kernel"][row, column]  # (filters, channels)
            kernel[reach[0] - 1 - down, reach[1] - 1 - right, :, top, left] = taps.T
    new = {"kernel": kernel.reshape(*reach, channels, size * size * filters)}
    if step.setting("use_bias"):
        new["bias"] = np.tile(weights["bias"], size * size)
    steps, value = [], step.inputs[0]

    def then(layer, weights=None):
        steps.append(step_of(layer, steps[-1].output if steps else value, weights))

    if max(reach) > 1:
        then(
            layers.ZeroPadding2D(
                tuple((r - 1, r - 1) for r in reach),
                data_format="channels_last",
                name=f"{step.name}_padding",
            )
        )
    then(
        layers.Conv2D(
            size * size * filters,
            tuple(reach),
            use_bias=step.setting("use_bias"),
            activation=step.operation.activation,
            data_format="channels_last",
            dtype="float32",
            name=step.name,
        ),
        new,
    )
    then(DepthToSpace(size, dtype="float32", name=f"{step.name}_spread"))
    crops = []
    for axis in (1, 2):
        have, wanted = steps[-1].output.shape[axis], step.output.shape[axis]
        before = 0
        if step.setting("padding") == "same":
            before = max(kernel_size[axis - 1] - size, 0) // 2
        crops.append((before, have - wanted - before))
    if any(map(any, crops)):
        then(
            layers.Cropping2D(
                tuple(crops), data_format="channels_last", name=f"{step.name}_cropped"
            )
        )
    return steps if steps[-1].output.shape == step.output.shape else None


def one_dimensional(step: Step) -> list[Step] | None:
    """A convolution of maps one pixel wide."""
    length, channels = step.inputs[0].shape[1:]
    if step.setting("data_format") != "channels_last" or length is None:
        return None
    weights = weights_of(step)
    (kernel_size,), (stride,) = step.setting("kernel_size"), step.setting("strides")
    (dilation,), padding = step.setting("dilation_rate"), step.setting("padding")
    steps = [
        step_of(layers.Reshape((length, 1, channels), name=f"{step.name}_map"), step.inputs[0])
    ]
    if padding == "causal":
        before = dilation * (kernel_size - 1)
        pad = layers.ZeroPadding2D(
            ((before, 0), (0, 0)), data_format="channels_last", name=f"{step.name}_padding"
        )
        steps.append(step_of(pad, steps[-1].output))
        padding = "valid"
    layer = layers.Conv2D(
        step.setting("filters"),
        (kernel_size, 1),
        strides=(stride, 1) if dilation > 1 else stride,
        padding=padding,
        dilation_rate=(dilation, 1),
        groups=step.setting("groups"),
        use_bias=step.setting("use_bias"),
        activation=step.operation.activation,
        data_format="channels_last",
        dtype="float32",
        name=step.name,
    )
    new = {**weights, "kernel": weights["kernel"][:, None]}
    steps.append(step_of(layer, steps[-1].output, new))
    flat = layers.Reshape(step.output.shape[1:], name=f"{step.name}_sequence")
    steps.append(step_of(flat, steps[-1].output))
    return steps


def pooling_1d(step: Step) -> list[Step] | None:
    """Pooling of maps one pixel wide."""
    length, channels = step.inputs[0].shape[1:]
    if step.setting("data_format") != "channels_last" or length is None:
        return None
    (size,), (stride,) = (np.atleast_1d(step.setting(x)).tolist() for x in ("pool_size", "strides"))
    pooled = (
        layers.AveragePooling2D if step.is_a(keras.layers.AveragePooling1D) else layers.MaxPooling2D
    )
    first = step_of(layers.Reshape((length, 1, channels), name=f"{step.name}_map"), step.inputs[0])
    layer = pooled(
        (size, 1),
        strides=(stride, 1),
        padding=step.setting("padding"),
        data_format="channels_last",
        name=step.name,
    )
    second = step_of(layer, first.output)
    flat = layers.Reshape(step.output.shape[1:], name=f"{step.name}_sequence")
    return [first, second, step_of(flat, second.output)]
