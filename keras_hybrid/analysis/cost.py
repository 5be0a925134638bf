"""Parameters and multiply-adds of a model, layer by layer, counted on its graph.

Element-wise work (norms, activations, softmax, sums) is not counted; papers that count it report a
few per cent more.
"""

import math
from dataclasses import dataclass

import keras

from keras_hybrid.analysis.multiply_adds import multiply_adds_of
from keras_hybrid.keras_private import calls
from keras_hybrid.layers import CutWindows, GlueWindows


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer for one image.

    Attributes:
        name: of the layer.
        parameters: trainable ones.
        multiply_adds: of its convolution or matrix products.
        kind: the layer's class.
    """

    name: str
    parameters: int
    multiply_adds: int
    kind: str = ""


def layer_costs(
    model: keras.Model, input_size: int | tuple[int, int] | None = None
) -> list[LayerCost]:
    """The cost of each layer of a functional model, in the graph's order.

    Args:
        model: a functional model. Models that it calls as layers are counted layer by layer.
        input_size: height and width of the image in pixels, one number for both; None for the
            model's own input size.

    Returns: `LayerCost`s; a layer used twice stands once, with all its multiply-adds.

    Raises:
        ValueError: when the size is neither given nor fixed by the model, or for a model that is
            not functional.
    """
    calls(model)  # refuses a model that is not functional
    totals: dict[keras.Operation, int] = {}
    _count(with_input_size(model, input_size), totals)
    return [
        LayerCost(operation.name, _trainable(operation), multiply_adds, type(operation).__name__)
        for operation, multiply_adds in totals.items()
    ]


def count_multiply_adds(model: keras.Model, input_size: int | tuple[int, int] | None = None) -> int:
    """Multiply-adds of a functional model's convolutions and matrix products for one image.

    Args and errors are those of `layer_costs`.
    """
    return sum(cost.multiply_adds for cost in layer_costs(model, input_size))


def with_input_size(
    model: keras.Model, input_size: int | tuple[int, int] | None = None
) -> keras.Model:
    """The model itself where its input size is known and as asked, else a copy of that size.

    Raises:
        ValueError: when the size is neither given nor fixed by the model.
    """
    shape = model.input_shape
    if input_size is None:
        if isinstance(shape, tuple) and len(shape) == 4 and None in shape[1:3]:
            raise ValueError(
                "The model takes images of any size: say which, with `input_size`. "
                f"Received: model with input shape {shape}, input_size=None"
            )
        return model
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    if (height, width) == tuple(shape[1:3]):
        return model
    return _copy(model, (height, width, shape[-1]))


def _copy(model, shape):
    """A copy that takes images of a shape; the original's layers' names and variables' shapes."""
    image = keras.Input(shape, name=model.inputs[0].name)
    return keras.models.clone_model(model, input_tensors=image)


def _count(model, totals):
    """Adds each call's multiply-adds to its layer's in `totals`, models inside included."""
    windows = {}  # how many entries of the batch an image is, by the id of a tensor
    for call in calls(model):
        entries = max((windows.get(id(tensor), 1) for tensor in call.inputs), default=1)
        if not isinstance(call.operation, keras.Model):
            totals.setdefault(call.operation, 0)
            totals[call.operation] += entries * multiply_adds_of(call)
            if isinstance(call.operation, CutWindows):
                entries *= call.operation.num_windows(call.inputs[0].shape)
            elif isinstance(call.operation, GlueWindows):
                entries = windows.get(id(call.inputs[1]), 1)
            windows.update((id(tensor), entries) for tensor in call.outputs)
            continue
        inner, copied = call.operation, {}
        shape = call.inputs[0].shape[1:]
        sized = inner if tuple(inner.input_shape[1:]) == tuple(shape) else _copy(inner, shape)
        _count(sized, copied)
        for operation, multiply_adds in copied.items():
            own = operation if sized is inner else _layer_of(inner, operation)
            totals[own] = totals.get(own, 0) + multiply_adds


def _layer_of(model, copied):
    """The operation of a model that a copy's operation stands for: that of the same name."""
    return next((c.operation for c in calls(model) if c.operation.name == copied.name), copied)


def _trainable(operation):
    return sum(math.prod(weight.shape) for weight in getattr(operation, "trainable_weights", []))
