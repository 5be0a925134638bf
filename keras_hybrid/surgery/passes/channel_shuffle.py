"""Channel shuffles as permutations of the weights around them.

A permutation cannot live in a grouped convolution, so these become convolutions of one group with
zeros: at the widths of mobile networks, a group of a few channels fills the CPU's vectors so badly
that the zeros cost nothing.
"""

import keras
import numpy as np

from keras_hybrid.layers import ChannelShuffle, GroupedConv2D, TwoSlopeReLU
from keras_hybrid.surgery.affine import (
    affine_producer,
    grouped_to_dense,
    is_affine,
    takes_every_channel,
)
from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.layer_traits import CHANNELWISE


def edit_channel_shuffles(model: EditableModel):
    """Has a pointwise convolution give or take the channels in the order of the shuffle."""
    # The last first: a shuffle after a shuffle is in the way of the one before.
    for step in reversed(list(model.steps)):
        if not step.is_a(ChannelShuffle):
            continue
        channels = step.output.shape[-1]
        # Output channel j is input channel order[j].
        order = np.arange(channels).reshape(step.setting("groups"), -1).T.reshape(-1)
        before = affine_producer(model, step.inputs[0])
        if before is not None and _is_pointwise(before):
            grouped_to_dense(before)
            for name, value in before.edit().weights.items():
                before.weights[name] = value[..., order]
            if before.folded_norm is not None:
                before.folded_norm = before.folded_norm.of_channels(order)
            model.bypass(step)
        elif _permute_after(model, step, order):
            model.bypass(step)
    for step in model.steps:
        if is_affine(model, step) and step.layer_class is GroupedConv2D:
            grouped_to_dense(step)


def _permute_after(model, step, order):
    """Has the next pointwise convolution expect the channels as they were before the shuffle."""
    channelwise, value = [], step.output
    while True:
        consumer = model.only_consumer(value)
        if consumer is None:
            return False
        if is_affine(model, consumer) and _is_pointwise(consumer):
            break
        if not _is_channelwise(model, consumer, value):
            return False
        channelwise.append(consumer)
        value = consumer.output
    back = np.argsort(order)
    for relu in channelwise:
        if relu.is_a(TwoSlopeReLU):
            for slope in (model.producer(value) for value in relu.inputs[1:]):
                slope.edit()
                for name, weight in slope.weights.items():
                    slope.weights[name] = weight[..., back]
    grouped_to_dense(consumer)
    consumer.edit()
    consumer.weights["kernel"] = consumer.weights["kernel"][:, :, back]
    return True


def _is_pointwise(step):
    return takes_every_channel(step) or (
        step.is_a(keras.layers.Conv2D)
        and not step.is_a(keras.layers.DepthwiseConv2D)
        and tuple(step.setting("kernel_size")) == (1, 1)
    )


def _is_channelwise(model, step, value):
    """Whether the step treats each channel of the value alike, or has slopes to be permuted."""
    if step.is_a(*CHANNELWISE):
        return True
    return (
        step.is_a(TwoSlopeReLU)
        and step.inputs[0] is value
        and all(
            model.only_consumer(slope) is step
            and model.producer(slope).is_a(keras.layers.Dense)
            and model.editable(model.producer(slope))
            for slope in step.inputs[1:]
        )
    )
