"""A functional model's calls in order: the one place that reads Keras' private graph."""

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation in a functional model.

    Attributes:
        operation: the layer, or the operation of `keras.ops`.
        inputs: the Keras tensors it was given, flattened.
        outputs: the Keras tensors it returned, flattened.
        args_and_kwargs: all it was given, in the call's structure.
    """

    operation: keras.Operation
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]
    args_and_kwargs: tuple[tuple, dict]


def calls(model: keras.Model) -> list[Call]:
    """All calls of a functional model, inputs before what is computed from them.

    Raises:
        ValueError: for a model that is not functional (or Sequential and built).
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = model._functional
    nodes_by_depth = getattr(model, "_nodes_by_depth", None)
    if not nodes_by_depth:
        raise ValueError(f"A functional model is expected. Received: model={model!r}")
    return [
        Call(
            node.operation,
            tuple(node.input_tensors),
            tuple(node.outputs),
            (node.arguments.args, node.arguments.kwargs),
        )
        for depth in sorted(nodes_by_depth, reverse=True)
        for node in nodes_by_depth[depth]
    ]


def first_input(operation: keras.Operation) -> keras.KerasTensor | None:
    """The first tensor that a layer or operation takes in its model; None outside of a model."""
    nodes = operation._inbound_nodes
    return nodes[0].input_tensors[0] if nodes and nodes[0].input_tensors else None


def producer(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer or operation that computes a tensor of a functional model."""
    return tensor._keras_history.operation
