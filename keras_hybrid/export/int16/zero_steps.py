"""Steps of what is zero, or next to it, on all images that the converter of int16x8 is shown."""

import numpy as np

from keras_hybrid.export.flatbuffer.file import TFLiteFile

ZEROS = 1e-24  # a step of what counts as zeros alone
STEP = 1 / 32768  # of numbers from -1 to 1
CURVES = ("LOGISTIC", "TANH")
LEAST_OF_CURVES = 1e-9  # a smaller step their kernels cannot multiply by


def give_steps_to_zeros(file: TFLiteFile):
    """Gives what has next to no step one that kernels can compute with.

    The converter gives zeros alone, such as a dead ReLU's, a step that makes the least float of the
    greatest integer: sigmoid and tanh of it are 1, and some operators end the process. Zero is the
    same number of any step, and what follows is on a step of its own. A constant 0 is that float.

    Args:
        file: as converted; changed in place.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    for graph in file.model.subgraphs:
        curved = {
            operator.inputs[0]
            for operator in graph.operators
            if file.operator_name(operator) in CURVES
        }
        for number, tensor in enumerate(graph.tensors):
            steps = None if tensor.quantization is None else tensor.quantization.scale
            if tensor.type != TensorType.INT16 or steps is None:
                continue
            if np.all(steps < ZEROS):
                tensor.quantization.scale = np.full_like(steps, STEP)
                _make_zeros(file, tensor)
            elif number in curved:
                tensor.quantization.scale = np.maximum(steps, np.float32(LEAST_OF_CURVES))


def _make_zeros(file, tensor):
    """Makes a constant's integers zeros; others may share its buffer."""
    from ai_edge_litert.schema_py_generated import BufferT

    content = file.model.buffers[tensor.buffer].data
    if content is None or not len(content):
        return  # computed
    buffer = BufferT()
    buffer.data = np.zeros_like(content)
    file.model.buffers.append(buffer)
    tensor.buffer = len(file.model.buffers) - 1
