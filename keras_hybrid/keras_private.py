"""Everything that is taken from Keras' private API: the one place, tested against each Keras.

Keras tells no functional model's calls in public, nor a layer's layers in depth, nor the moving
averages of an optimizer. `tests/test_keras_private.py` fails where a Keras names them otherwise.
"""

import contextlib
import sys
from dataclasses import dataclass

import keras
from keras.src.models.functional import Functional

DEEPEST = 10_000


def allow_deep_models():
    """Has Keras build and load models thousands of layers deep.

    It follows a model's graph by recursion, a Python frame a layer; Python's limit is 1,000, and a
    quantised model is up to twice as deep as its float model (EfficientNetV2L's is too deep).
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEEPEST))


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


def functional(model: keras.Model) -> keras.Model | None:
    """The model as one with a graph: itself, or what a built Sequential is inside.

    Returns: None for a model without a graph, such as a subclassed one.
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = model._functional
    return model if getattr(model, "_nodes_by_depth", None) else None


def calls(model: keras.Model) -> list[Call]:
    """All calls of a functional model, inputs before what is computed from them.

    Raises:
        ValueError: for a model that is not functional (or Sequential and built).
    """
    graph = functional(model)
    if graph is None:
        raise ValueError(f"A functional model is expected. Received: model={model!r}")
    return [
        Call(
            node.operation,
            tuple(node.input_tensors),
            tuple(node.outputs),
            (node.arguments.args, node.arguments.kwargs),
        )
        for depth in sorted(graph._nodes_by_depth, reverse=True)
        for node in graph._nodes_by_depth[depth]
    ]


def outputs_structure(model: keras.Model):
    """The outputs of a functional model as it returns them: a tensor, list or dict."""
    return functional(model)._outputs_struct


def inputs_structure(model: keras.Model):
    """The inputs of a functional model as it takes them: a tensor, list or dict."""
    return functional(model)._inputs_struct


def input_of(operation: keras.Operation, number: int = 0, **options) -> keras.KerasTensor | None:
    """A tensor that a layer or operation takes in its model; None outside of a model.

    Args:
        operation: to be looked at.
        number: of its inputs.
        options: arguments that tell the call from others; the first call if none.
    """
    node = _call_of(operation, options)
    return node.input_tensors[number] if node is not None and node.input_tensors else None


def output_of(operation: keras.Operation, **options) -> keras.KerasTensor | None:
    """The first tensor that a layer or operation gives in its model; None outside of a model.

    Args:
        operation: to be looked at.
        options: arguments that tell the call from others; the first call if none.
    """
    node = _call_of(operation, options)
    return None if node is None else node.outputs[0]


def _call_of(operation, options):
    for node in operation._inbound_nodes:
        given = node.arguments.kwargs
        if all(given.get(name) == value for name, value in options.items()):
            return node
    return None


def consumers(tensor: keras.KerasTensor) -> list[keras.Operation]:
    """The layers and operations that take a tensor of a functional model."""
    return [
        node.operation
        for node in producer(tensor)._outbound_nodes
        if any(x is tensor for x in node.input_tensors)
    ]


def count_calls(operation: keras.Operation) -> int:
    """How often a layer or operation is called in its model."""
    return len(operation._inbound_nodes)


def last_output(operation: keras.Operation) -> keras.KerasTensor:
    """What the last call of a layer or operation returned."""
    return operation._inbound_nodes[-1].outputs[0]


def producer(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer or operation that computes a tensor of a functional model."""
    return tensor._keras_history.operation


# Keras' names of what it traces for `predict`, `evaluate` and `fit`, step by step.
STEPS_OF_KERAS = (
    *("one_step_on_data", "one_step_on_data_distributed"),
    *("multi_step_on_data", "multi_step_on_iterator"),
)


def computes_for_keras() -> bool:
    """Whether what a layer computes is for whoever calls Keras, on the TensorFlow backend.

    Returns: True in eager calls and in what `predict`, `evaluate` and `fit` trace; False while
        another graph is made, which may be converted.
    """
    import tensorflow as tf

    if not tf.inside_function():
        return True
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if getattr(graph, "name", None) in STEPS_OF_KERAS:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def computed_from(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """The tensors that the call took which gave a tensor of a functional model.

    An operation may be called in several models: it is this tensor's call that counts.
    """
    history = tensor._keras_history
    return list(history.operation._inbound_nodes[history.node_index].input_tensors)


def layers_in_depth(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """All layers inside of a layer or model, those inside of its layers included."""
    return list(layer._flatten_layers(include_self=False, recursive=True))


def moving_averages(optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Each trainable variable of an optimizer with `use_ema`, and its moving average.

    Args:
        optimizer: built; one that scales the loss stands for the one inside.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return list(
        zip(
            optimizer._trainable_variables,
            optimizer._model_variables_moving_average,
            strict=True,
        )
    )


def share_reduction_axes(norm: keras.layers.BatchNormalization, other):
    """Has another batch norm, which was never built, average over the axes of a built one."""
    other._reduction_axes = norm._reduction_axes


def is_of_applications(layer_class: type) -> bool:
    """Whether a layer's class is one that networks of `keras.applications` bring along."""
    return layer_class.__module__.startswith("keras.src.applications.")


def graph_inside(operation: keras.Operation) -> keras.Model | None:
    """What a functional or Sequential model computes, as a graph.

    Returns: None for other layers, for models without a graph, and for those whose class has a
        `call` of its own, which may do something else.
    """
    if not isinstance(operation, keras.Model):
        return None
    graph = functional(operation)
    if graph is None or type(operation).call not in (Functional.call, keras.Sequential.call):
        return None
    return graph


def inputs_inside(graph: keras.Model, given) -> list | None:
    """What a model gets for each of its inputs when it is called, in the order of its inputs.

    Args:
        graph: a functional model.
        given: its first argument: in the structure of its inputs, or a dict by their names.

    Returns: None where they do not fit.
    """
    inputs = graph.inputs
    if isinstance(given, dict) and not isinstance(inputs_structure(graph), dict):
        given = [given.get(tensor.name) for tensor in inputs]
    flat = keras.tree.flatten(given)
    return flat if len(flat) == len(inputs) and None not in flat else None


def renamed(operation: keras.Operation, name: str) -> keras.Operation:
    """The same operation or layer by another name, called nowhere yet; weights are shared."""
    new = object.__new__(type(operation))  # `copy` would write it down, which not all can be
    new.__dict__.update(operation.__dict__)
    object.__setattr__(new, "name", name)
    object.__setattr__(new, "_inbound_nodes", [])
    object.__setattr__(new, "_outbound_nodes", [])
    return new


@contextlib.contextmanager
def float32_by_default():
    """While it lasts, new layers compute in float32 where the global policy is half precision."""
    policy = keras.config.dtype_policy()
    if policy.compute_dtype not in ("float16", "bfloat16"):
        yield
        return
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
