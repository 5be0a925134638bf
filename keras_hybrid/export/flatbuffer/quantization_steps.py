"""Whether the kernels of a converted file have steps that integers can be counted in."""

import numpy as np

from keras_hybrid.export.flatbuffer.file import TFLiteFile

KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def check_steps(file: TFLiteFile):
    """Refuses a file where a step of a kernel or its bias is no number.

    Converters make such of values without a range, and say nothing; the layer then computes
    anything.

    Raises:
        RuntimeError: it names the tensors.
    """
    wrong = []
    for graph in file.model.subgraphs:
        for operator in graph.operators:
            if file.operator_name(operator) not in KERNELS:
                continue
            for tensor in (graph.tensors[index] for index in operator.inputs if index >= 0):
                steps = None if tensor.quantization is None else tensor.quantization.scale
                if steps is not None and not np.isfinite(steps).all():
                    wrong.append(tensor.name.decode())
    if wrong:
        raise RuntimeError(
            f"The converter found no range for {len(wrong)} tensors, and their layers would "
            "compute anything: give `representative_data` like what the model will see, or "
            f"another precision. Received: {', '.join(wrong[:5])}"
        )
