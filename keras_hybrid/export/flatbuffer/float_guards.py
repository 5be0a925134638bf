"""Takes the marks of `StayFloat` out of a converted file."""

import numpy as np

from keras_hybrid.export.flatbuffer.packing import pack
from keras_hybrid.quantization.twins.float_guard import GUARD_FACTOR


def remove_marks(content: bytes) -> bytes:
    """A `.tflite` without products by `GUARD_FACTOR` and leaky ReLUs of that slope: their readers
    take what was guarded.

    Args:
        content: of the file.

    Returns: the content of the new file; the same where there is no mark.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    marks = {
        number
        for number, buffer in enumerate(model.buffers)
        if buffer.data is not None
        and len(buffer.data) == 4
        and bytes(buffer.data) == np.float32(GUARD_FACTOR).tobytes()
    }
    removed = 0
    for graph in model.subgraphs:
        kept, instead = [], {}
        outputs = {int(index) for index in graph.outputs}
        for operator in graph.operators:
            operator.inputs = np.array(
                [instead.get(int(index), int(index)) for index in operator.inputs], "int32"
            )
            marked = _marked(operator, codes, graph, marks, schema)
            if marked is None or int(operator.outputs[0]) in outputs:
                kept.append(operator)
            else:
                instead[int(operator.outputs[0])] = marked
                removed += 1
        graph.operators = kept
    if not removed:
        return content
    return pack(model)


def _marked(operator, codes, graph, marks, schema):
    """What the operator multiplies by the mark, or None."""
    if codes[operator.opcodeIndex] == schema.BuiltinOperator.LEAKY_RELU:
        slope = np.float32(operator.builtinOptions.alpha)
        return int(operator.inputs[0]) if slope == np.float32(GUARD_FACTOR) else None
    if codes[operator.opcodeIndex] != schema.BuiltinOperator.MUL:
        return None
    tensors = [int(index) for index in operator.inputs]
    constants = [index for index in tensors if graph.tensors[index].buffer in marks]
    others = [index for index in tensors if index not in constants]
    return others[0] if len(constants) == len(others) == 1 else None
