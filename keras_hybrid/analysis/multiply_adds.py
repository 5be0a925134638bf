"""Multiply-adds of one call of a layer, from its shapes."""

import math

import keras
from keras import layers

from keras_hybrid.keras_private import Call
from keras_hybrid.layers import DotProductAttention


def multiply_adds_of(call: Call) -> int:
    """Multiply-adds of a call's convolution or matrix products for one image; else 0.

    Raises:
        ValueError: where they depend on a length that is not known.
    """
    try:
        return _multiply_adds(call)
    except TypeError as error:  # None times a number
        raise ValueError(
            "All lengths but the batch's must be known to count multiply-adds. Received: "
            f"{call.operation.name} with inputs {[tensor.shape for tensor in call.inputs]}"
        ) from error


def _multiply_adds(call):
    layer, inputs = call.operation, [tensor.shape for tensor in call.inputs]
    output = call.outputs[0].shape if call.outputs else ()
    if isinstance(layer, layers.DepthwiseConv2D):
        return math.prod(output[1:]) * math.prod(layer.kernel_size)
    if isinstance(layer, layers.SeparableConv2D):
        kernels = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
        return _pixels(layer, output) * sum(map(math.prod, kernels))
    # Keras' transposed convolutions are no subclasses of the others.
    if isinstance(layer, layers.Conv1DTranspose | layers.Conv2DTranspose | layers.Conv3DTranspose):
        return _pixels(layer, inputs[0]) * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Conv1D | layers.Conv2D | layers.Conv3D):
        return _pixels(layer, output) * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Dense):
        return math.prod(inputs[0][1:]) * layer.units
    if isinstance(layer, layers.EinsumDense):
        return _einsum(layer, inputs[0])
    if isinstance(layer, DotProductAttention):
        return layer.multiply_adds(*inputs)
    if isinstance(layer, layers.MultiHeadAttention):
        return _multi_head_attention(layer, inputs, output[-1])
    if type(layer).__name__ == "Matmul" and isinstance(layer, keras.Operation):
        return math.prod(output[1:]) * inputs[0][-1]
    return 0


def _pixels(layer, shape):
    """How many positions the map of a shape (batch, ..., channels) has."""
    channels_last = layer.data_format == "channels_last"
    return math.prod(shape[1:-1] if channels_last else shape[2:])


def _einsum(layer, shape):
    """The product of the lengths of all letters of "abc,cde->abde" but the batch's."""
    operands, _ = layer.equation.replace(" ", "").split("->")
    left, right = (operand.replace("...", "") for operand in operands.split(","))
    shape = (1, *shape[1:])  # one image
    # What "..." stands for comes first.
    before, lengths = shape[: len(shape) - len(left)], shape[len(shape) - len(left) :]
    known = dict(zip(right, layer.kernel.shape, strict=True)) | dict(
        zip(left, lengths, strict=True)
    )
    return math.prod(known.values()) * math.prod(before)


def _multi_head_attention(layer, inputs, width):
    """Projections of query, key and value, both products of the attention, and the output's."""
    query, value = inputs[0], inputs[1]
    key = inputs[2] if len(inputs) > 2 else value
    queries, keys = math.prod(query[1:-1]), math.prod(key[1:-1])
    key_width = layer.num_heads * layer.key_dim
    value_width = layer.num_heads * (layer.value_dim or layer.key_dim)
    projections = queries * (query[-1] * key_width + value_width * width)
    projections += keys * (key[-1] * key_width + value[-1] * value_width)
    return projections + queries * keys * (key_width + value_width)
