"""Multiply-adds of convolutions and matrix products, counted on a model's graph.

Element-wise work (norms, activations, softmax, sums) is not counted; papers that count it report a
few per cent more.
"""

import math
from dataclasses import dataclass

import keras

from keras_hybrid.graph import calls
from keras_hybrid.layers import DotProductAttention


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer for one image.

    Attributes:
        name: of the layer.
        parameters: trainable ones.
        multiply_adds: of its convolution or matrix products.
    """

    name: str
    parameters: int
    multiply_adds: int


def layer_costs(
    model: keras.Model, input_size: int | tuple[int, int] | None = None
) -> list[LayerCost]:
    """The cost of each layer of a functional model, in the graph's order.

    Args:
        model: a functional model.
        input_size: height and width of the image in pixels, one number for both; None for the
            model's own input size.

    Returns: `LayerCost`s; a layer used twice stands once, with all its multiply-adds.

    Raises:
        ValueError: when the size is neither given nor fixed by the model, or for a model that is
            not functional.
    """
    calls(model)  # refuses a model that is not functional
    totals = {}
    for call in calls(_with_input_size(model, input_size)):
        totals.setdefault(call.operation, 0)
        totals[call.operation] += _multiply_adds(call)
    return [
        LayerCost(operation.name, _trainable(operation), multiply_adds)
        for operation, multiply_adds in totals.items()
    ]


def count_multiply_adds(model: keras.Model, input_size: int | tuple[int, int] | None = None) -> int:
    """Multiply-adds of a functional model's convolutions and matrix products for one image.

    Args and errors are those of `layer_costs`.
    """
    return sum(cost.multiply_adds for cost in layer_costs(model, input_size))


def _trainable(operation):
    return sum(math.prod(weight.shape) for weight in getattr(operation, "trainable_weights", []))


def _with_input_size(model, input_size):
    """The model itself where its input size is known and as asked, else a copy of that size."""
    shape = model.input_shape
    if input_size is None:
        if None in shape[1:3]:
            raise ValueError(
                "The model takes images of any size: say which, with `input_size`. "
                f"Received: model with input shape {shape}, input_size=None"
            )
        return model
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    if (height, width) == tuple(shape[1:3]):
        return model
    return keras.models.clone_model(model, input_tensors=keras.Input((height, width, shape[-1])))


def _multiply_adds(call):
    """Multiply-adds of one call for one image."""
    layer, inputs = call.operation, [tensor.shape for tensor in call.inputs]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        _, height, width, channels = call.outputs[0].shape
        return height * width * channels * math.prod(layer.kernel_size)
    if isinstance(layer, keras.layers.Conv2D):
        _, height, width, _ = call.outputs[0].shape
        return height * width * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(inputs[0][1:]) * layer.units
    if isinstance(layer, DotProductAttention):
        return layer.multiply_adds(*inputs)
    return 0
