"""What LiteRT's GPU delegate takes, checked on the file alone."""

import math
import os
from collections import Counter
from dataclasses import dataclass

from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.inspect import Tensor, inspect_tflite
from keras_hybrid.layers.attention_heads import LONGEST_PRODUCT

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
# Those that refuse one value twice; ADD, MUL and CONCATENATION do not.
OF_TWO = frozenset(("DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE", "SUB"))


@dataclass(frozen=True)
class GpuReadiness:
    """What the GPU delegate would refuse.

    Attributes:
        unsupported_ops: operators that are not on the delegate's list, and how many of each.
        unsupported_shapes: activations of rank over 4 or, of more than two, with a first
            dimension over 1.
        constant_products: matrix products with a constant on the left, by what they compute.
        repeated_inputs: operators of two inputs that take one value twice: each's name, and that of
            what it computes.
        shared_products: products of several matrices with one on the right, which the delegate
            takes and computes wrongly: right is only what has multiples of four rows and columns.
        long_products: products with more than `LONGEST_PRODUCT` rows on the right, those of all
            matrices counted, which the delegate takes and computes wrongly.
    """

    unsupported_ops: Counter
    unsupported_shapes: tuple[Tensor, ...]
    constant_products: tuple[str, ...] = ()
    repeated_inputs: tuple[tuple[str, str], ...] = ()
    shared_products: tuple[str, ...] = ()
    long_products: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether nothing would be refused, or be computed wrongly."""
        return not any(vars(self).values())


def check_gpu_delegate(path: str | os.PathLike) -> GpuReadiness:
    """Checks a `.tflite` against the operators and shapes of LiteRT's GPU delegate.

    It reads the file; whether a phone's driver then runs it well, only the phone tells.

    Raises:
        ValueError: for a missing file or one that is no `.tflite`.
    """
    found = inspect_tflite(path)
    file = TFLiteFile.read(path)
    products, constants = _constants(file)
    return GpuReadiness(
        unsupported_ops=Counter(
            {name: count for name, count in found.ops.items() if name not in SUPPORTED_OPS}
        ),
        unsupported_shapes=tuple(
            x for x in found.gpu_shape_offenders if len(x.shape) > 2 and x.name not in constants
        ),
        constant_products=products,
        repeated_inputs=_repeated_inputs(file),
        shared_products=_shared_products(file),
        long_products=_long_products(file),
    )


def _repeated_inputs(file):
    """Operators of one value and itself, which the delegate refuses: pairs of names."""
    graph = file.model.subgraphs[0]
    return tuple(
        (name, graph.tensors[operator.outputs[0]].name.decode())
        for operator in graph.operators
        if (name := file.operator_name(operator)) in OF_TWO
        and int(operator.inputs[0]) == int(operator.inputs[1])
    )


def _shared_products(file):
    """Matrix products of which the right side is one for several on the left: names."""
    graph = file.model.subgraphs[0]
    found = []
    for operator in graph.operators:
        if file.operator_name(operator) != "BATCH_MATMUL":
            continue
        left, right = (graph.tensors[index].shape[:-2] for index in operator.inputs)
        if math.prod(map(int, right)) < math.prod(map(int, left)):
            found.append(graph.tensors[operator.outputs[0]].name.decode())
    return tuple(found)


def _long_products(file):
    """Matrix products with more rows on the right than the delegate can count: names."""
    graph = file.model.subgraphs[0]
    return tuple(
        graph.tensors[operator.outputs[0]].name.decode()
        for operator in graph.operators
        if file.operator_name(operator) == "BATCH_MATMUL"
        and not operator.builtinOptions.adjY
        and math.prod(map(int, graph.tensors[operator.inputs[1]].shape[:-1])) > LONGEST_PRODUCT
    )


def _constants(file):
    """Matrix products with a constant on the left, and constants that operators compute: names.

    In half precision, weights are such: DEQUANTIZE gives them.
    """
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
