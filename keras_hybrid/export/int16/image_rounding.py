"""Kernels of int16x8 rounded by what images give them, for a converter that rounds to the nearest.

In int8 the rounding of activations hides that of weights; with activations of 16 bits it is all
that is felt.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_hybrid.export.int16.kernel_rounding import round_for_inputs
from keras_hybrid.export.int16.values_of_images import values_of_images
from keras_hybrid.surgery.editable_model import EditableModel

KINDS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
MOST_IMAGES = 128
MOST_NUMBERS = 2**26  # of products in memory at once: 256 MiB


def edit_rounding_for(images: Sequence[np.ndarray]) -> Callable[[EditableModel], None]:
    """An edit that puts kernels on their grids of 8 bits, with the least error on these images.

    Those of convolutions, depthwise ones and dense layers; a kernel that is called several times
    for what all its calls see. The converter rounds to the nearest what is left: of grouped and
    transposed convolutions, and of what takes numbers that are not finite.

    Args:
        images: (1, ...) each, as the model takes them.
    """
    chosen = images[:: -(-len(images) // MOST_IMAGES)]

    def edit(model: EditableModel):
        calls = defaultdict(list)
        for step in filter(_is_kernel, model.steps):
            calls[step.operation, step.layer_class, step.weight("kernel").tobytes()].append(step)
        kernels = list(calls.values())
        measures = {
            (number, window): (window[0], _products(*window[1:]))
            for number, steps in enumerate(kernels)
            for window in dict.fromkeys(map(_window, steps))
        }
        found = values_of_images(model, measures, chosen, MOST_NUMBERS)
        for number, of_kernel in itertools.groupby(found, lambda measured: measured[0][0]):
            _round(kernels[number], sum(np.sum(x, 0, dtype="float64") for _, x in of_kernel))

    return edit


def _is_kernel(step):
    return (
        step.layer_class in KINDS
        and step.setting("groups") in (None, 1)
        and step.setting("data_format") in (None, "channels_last")
    )


def _window(step):
    """What a kernel's inputs are: a value, how it is cut, and whether channel by channel."""
    if step.is_a(keras.layers.Dense):
        return step.inputs[0], None, False
    names = ("kernel_size", "strides", "dilation_rate", "padding")
    cut = tuple(_hashable(step.setting(name)) for name in names)
    return step.inputs[0], cut, step.is_a(keras.layers.DepthwiseConv2D)


def _hashable(setting):
    return setting if isinstance(setting, str) else tuple(np.broadcast_to(setting, 2).tolist())


def _products(cut, by_channel):
    """A function of a kernel's input to products of what its weights are multiplied by.

    (batch, ..., C) -> (1, inputs, inputs), or (C, taps, taps) where each channel is on its own:
    summed over images and places.
    """

    def products(x):
        channels = x.shape[-1]
        if cut is not None:
            size, strides, dilation, padding = cut
            x = ops.image.extract_patches(
                x, size, strides, dilation, padding, data_format="channels_last"
            )
        rows = ops.reshape(x, (-1, x.shape[-1]))
        if by_channel:
            rows = ops.reshape(rows, (-1, rows.shape[-1] // channels, channels))
            rows = ops.transpose(rows, (2, 0, 1))  # (C, rows, taps)
        else:
            rows = ops.expand_dims(rows, 0)
        return ops.matmul(ops.swapaxes(rows, 1, 2), rows)

    return products


def _round(steps, products):
    """Rounds one kernel in all its calls."""
    if not np.isfinite(products).all():
        return
    kernel = steps[0].weight("kernel")
    if steps[0].is_a(keras.layers.DepthwiseConv2D):  # (h, w, C, multiplier)
        by_channel = kernel.reshape(-1, *kernel.shape[2:]).transpose(1, 0, 2)
        rounded = round_for_inputs(by_channel, products).transpose(1, 0, 2)
    else:
        rounded = round_for_inputs(kernel.reshape(1, -1, kernel.shape[-1]), products)
    for step in steps:
        step.edit().weights["kernel"] = rounded.reshape(kernel.shape)
