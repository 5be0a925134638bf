"""Kernels of int16x8 rounded by what images give them, for a converter that rounds to the nearest.

In int8 the rounding of activations hides that of weights; with activations of 16 bits it is all
that is felt.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_hybrid.export.int16.kernel_rounding import round_for_inputs
from keras_hybrid.export.int16.watched_values import watch_values
from keras_hybrid.surgery.editable_model import EditableModel

KINDS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
MOST_IMAGES = 128
MOST_ROWS = 1024  # of what a kernel sees of one image; of more, some that are spread evenly
MOST_NUMBERS = 2**25  # of products in memory at once: 256 MiB


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
        group, size = [], 0
        for kernel in map(_Kernel, calls.values()):
            if group and size + kernel.size > MOST_NUMBERS:
                _round(model, group, chosen)
                group, size = [], 0
            group.append(kernel)
            size += kernel.size
        _round(model, group, chosen)

    return edit


def _is_kernel(step):
    return (
        step.layer_class in KINDS
        and step.setting("groups") in (None, 1)
        and step.setting("data_format") in (None, "channels_last")
    )


def _round(model, kernels, images):
    """Rounds kernels, of which as many are given as have room for their products."""
    watchers = [(step.inputs[0], kernel.see) for kernel in kernels for step in kernel.steps]
    watch_values(model, watchers, images)
    for kernel in kernels:
        kernel.round()


class _Kernel:
    """A kernel, with the products of what its weights are multiplied by.

    Args:
        steps: its calls.
    """

    def __init__(self, steps):
        self.steps = steps
        kernel = steps[0].weight("kernel")
        self.shape = kernel.shape
        if steps[0].is_a(keras.layers.DepthwiseConv2D):  # (h, w, C, multiplier): channel by channel
            self.kernel = kernel.reshape(-1, *kernel.shape[2:]).transpose(1, 0, 2)
        else:
            self.kernel = kernel.reshape(1, -1, kernel.shape[-1])
        groups, inputs, _ = self.kernel.shape  # each group of outputs has inputs of its own
        self.size = groups * inputs**2
        self.products = 0.0

    def see(self, x):
        """Adds an input, (batch, ..., C)."""
        groups, inputs, _ = self.kernel.shape
        step, most = self.steps[0], MOST_ROWS * len(x)
        if not step.is_a(keras.layers.Dense):
            x = ops.image.extract_patches(
                x,
                tuple(step.setting("kernel_size")),
                tuple(step.setting("strides")),
                tuple(step.setting("dilation_rate")),
                step.setting("padding"),
                data_format="channels_last",
            )
        rows = ops.reshape(x, (-1, inputs, groups))
        rows = ops.transpose(rows[:: -(-len(rows) // most)], (2, 0, 1))
        products = ops.matmul(ops.swapaxes(rows, 1, 2), rows)  # (groups, inputs, inputs)
        self.products = self.products + np.asarray(products, "float64")

    def round(self):
        """Gives all calls the rounded kernel."""
        products, self.products = self.products, 0.0
        if not np.isfinite(products).all():
            return
        rounded = round_for_inputs(self.kernel, products)
        if len(rounded) > 1:
            rounded = rounded.transpose(1, 0, 2)
        for step in self.steps:
            step.edit().weights["kernel"] = rounded.reshape(self.shape)
