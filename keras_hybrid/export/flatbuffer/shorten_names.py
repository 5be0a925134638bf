"""Short names in a `.tflite`: in a small int8 network, names are a fortieth of the file."""

import re

import numpy as np

from keras_hybrid.export.flatbuffer.file import TFLiteFile

# What `quantize` puts beside a layer is named after it.
BESIDE = re.compile(rb"_(rounded|float)\d*(?=(_\d+)?$)")


def shorten_names(file: TFLiteFile, name_floats: bool = True):
    """Gives tensors short names, and drops those that nothing uses.

    Names keep what they are read for: what a layer computes has the layer's name, so that costs
    are told by layer. Constants have none.

    Args:
        file: to be changed.
        name_floats: whether what is computed in float inside of a layer keeps a name of its own:
            in a file that is to be int8 throughout, it is what a user has to be told.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    for graph in file.model.subgraphs:
        _drop_unused(graph, file.model.signatureDefs or [])
        _shorten(graph, TensorType.FLOAT32 if name_floats else None)


def first_names(file: TFLiteFile):
    """Leaves one name of those that the converter strings together where it fuses tensors."""
    for graph in file.model.subgraphs:
        ends = {int(index) for index in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in ends:
                tensor.name = tensor.name.split(b";")[0]


def _drop_unused(graph, signatures):
    used = {int(index) for index in (*graph.inputs, *graph.outputs)}
    for operator in graph.operators:
        used.update(int(index) for index in (*operator.inputs, *operator.outputs))
    place = {-1: -1}  # an operator's missing input
    for index in sorted(used - {-1}):
        place[index] = len(place) - 1

    def moved(indices):
        return np.array([place[int(index)] for index in indices], "int32")

    for operator in graph.operators:
        operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
    graph.tensors = [graph.tensors[index] for index in sorted(used - {-1})]
    graph.inputs, graph.outputs = moved(graph.inputs), moved(graph.outputs)
    for signature in signatures:
        for tensor in (*signature.inputs, *signature.outputs):
            tensor.tensorIndex = place[tensor.tensorIndex]


def _shorten(graph, named_type):
    kept = {int(index) for index in (*graph.inputs, *graph.outputs)}
    computed = [int(index) for operator in graph.operators for index in operator.outputs]
    last = {_layer(graph.tensors[index]): index for index in computed}
    constant = set(range(len(graph.tensors))).difference(computed)
    for index, tensor in enumerate(graph.tensors):
        if index in kept:
            continue
        layer = _layer(tensor)
        if index in constant:
            tensor.name = b""
        elif tensor.type == named_type and last[layer] != index:
            tensor.name = tensor.name.split(b";")[0]
        else:
            tensor.name = layer


def _layer(tensor):
    """The layer in "model/layer/operation;model/..."; the name itself where there is none."""
    parts = tensor.name.split(b";")[0].split(b"/")
    return BESIDE.sub(b"", parts[1]) if len(parts) > 1 else tensor.name
