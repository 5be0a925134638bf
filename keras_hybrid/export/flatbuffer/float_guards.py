"""Takes the float guards (`StayFloat`) out of a converted file."""

import numpy as np

from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.quantization.twins.float_guard import GUARD_FACTOR


def remove_float_guards(file: TFLiteFile):
    """Removes products by `GUARD_FACTOR` and leaky ReLUs of that slope.

    Their readers take what was guarded.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator as Kind

    slope = np.float32(GUARD_FACTOR)
    guards = {
        number
        for number, buffer in enumerate(file.model.buffers)
        if buffer.data is not None
        and len(buffer.data) == 4
        and bytes(buffer.data) == slope.tobytes()
    }

    def guarded(operator, graph):
        """The tensor that the operator guards, or None for an operator of the network's own."""
        if file.kind(operator) == Kind.LEAKY_RELU:
            is_guard = np.float32(operator.builtinOptions.alpha) == slope
            return int(operator.inputs[0]) if is_guard else None
        if file.kind(operator) != Kind.MUL:
            return None
        tensors = [int(index) for index in operator.inputs]
        constants = [index for index in tensors if graph.tensors[index].buffer in guards]
        others = [index for index in tensors if index not in constants]
        return others[0] if len(constants) == len(others) == 1 else None

    for graph in file.model.subgraphs:
        kept, instead = [], {}
        outputs = {int(index) for index in graph.outputs}
        for operator in graph.operators:
            operator.inputs = np.array(
                [instead.get(int(index), int(index)) for index in operator.inputs], "int32"
            )
            tensor = guarded(operator, graph)
            if tensor is None or int(operator.outputs[0]) in outputs:
                kept.append(operator)
            else:
                instead[int(operator.outputs[0])] = tensor
        graph.operators = kept
