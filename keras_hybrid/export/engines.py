"""What LiteRT's GPU delegate takes, checked on the file alone."""

import os
from collections import Counter
from dataclasses import dataclass

from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.inspect import Tensor, inspect_tflite

# The delegate's list for floating-point models: LiteRT documentation, "GPU delegates for LiteRT",
# section "Supported ops", and the parsers behind it in tflite/delegates/gpu/common.
# fmt: off
SUPPORTED_OPS = frozenset((
    "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CAST", "CONCATENATION", "CONV_2D", "COS",
    "DEPTH_TO_SPACE", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV", "ELU", "EQUAL", "EXP", "FLOOR",
    "FLOOR_DIV", "FLOOR_MOD", "FULLY_CONNECTED", "GATHER", "GELU", "GREATER", "GREATER_EQUAL",
    "HARD_SWISH", "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOGISTIC", "LSTM", "MAX_POOL_2D",
    "MAXIMUM", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "NOT_EQUAL", "PACK", "PAD", "POW",
    "PRELU", "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU_0_TO_1",
    "RELU_N1_TO_1", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT",
    "SELECT_V2", "SIGN", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V",
    "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TILE",
    "TRANSPOSE", "TRANSPOSE_CONV",
))
# fmt: on


@dataclass(frozen=True)
class GpuReadiness:
    """What the GPU delegate would refuse.

    Attributes:
        unsupported_ops: operators that are not on the delegate's list, and how many of each.
        unsupported_shapes: activations of rank over 4 or, of more than two, with a first
            dimension over 1.
        constant_products: matrix products with a constant on the left, by what they compute.
    """

    unsupported_ops: Counter
    unsupported_shapes: tuple[Tensor, ...]
    constant_products: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether nothing would be refused."""
        return not (self.unsupported_ops or self.unsupported_shapes or self.constant_products)


def check_gpu_delegate(path: str | os.PathLike) -> GpuReadiness:
    """Checks a `.tflite` against the operators and shapes of LiteRT's GPU delegate.

    It reads the file; whether a phone's driver then runs it well, only the phone tells.

    Raises:
        ValueError: for a missing file or one that is no `.tflite`.
    """
    found = inspect_tflite(path)
    products, constants = _constants(path)
    return GpuReadiness(
        unsupported_ops=Counter(
            {name: count for name, count in found.ops.items() if name not in SUPPORTED_OPS}
        ),
        unsupported_shapes=tuple(
            x for x in found.gpu_shape_offenders if len(x.shape) > 2 and x.name not in constants
        ),
        constant_products=products,
    )


def _constants(path):
    """Matrix products with a constant on the left, and constants that operators compute: names.

    In half precision, weights are such: DEQUANTIZE gives them.
    """
    file = TFLiteFile.read(path)
    graph = file.model.subgraphs[0]
    computed, products, constants = {int(index) for index in graph.inputs}, [], set()
    for operator in graph.operators:
        name, inputs = file.operator_name(operator), [int(index) for index in operator.inputs]
        outputs = [int(index) for index in operator.outputs]
        if name == "DEQUANTIZE" and inputs[0] not in computed:
            constants.update(graph.tensors[index].name.decode() for index in outputs)
            continue
        if name == "BATCH_MATMUL" and inputs[0] not in computed:
            products.append(graph.tensors[outputs[0]].name.decode())
        computed.update(outputs)
    return tuple(products), constants
