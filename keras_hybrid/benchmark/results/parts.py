"""Which part of a model an operator belongs to, by the stable names of the model's layers."""

import re
from collections.abc import Sequence

from keras_hybrid.benchmark.results.graph import UNKNOWN, Node, layer_name, part_of_layer

RUNTIME = "runtime"
BETWEEN_OPERATORS = "between operators"
_DELEGATE = "Delegate/"

_RUNTIME_KIND = re.compile(
    "AllocateTensors|ModifyGraphWithDelegate|LiteRT::|ResetVariables|.*buffer |"
    + BETWEEN_OPERATORS,
    re.IGNORECASE,
)
# Operators that do the same, in the words of the flatbuffer, XNNPACK and the GPU delegate.
_FAMILIES = (
    ("depthwise convolution", r"DEPTHWISE_CONV_2D|.*DWConv|depthwise_convolution"),
    ("transposed convolution", r"TRANSPOSE_CONV|Deconvolution|convolution_transposed"),
    ("fully connected", r"FULLY_CONNECTED|Fully Connected|fully_connected"),
    ("convolution", r"CONV_2D|Convolution|convolution_2d"),
    ("matrix product", r"BATCH_MATMUL|Batch Matrix Multiply|batched_matmul"),
    ("softmax", r"SOFTMAX|Softmax|softmax"),
    ("mean", r"MEAN|Mean|Global Average Pooling|mean|reduce_mean"),
    ("average pooling", r"AVERAGE_POOL_2D|Average Pooling|average_pooling"),
    ("maximum pooling", r"MAX_POOL_2D|Max Pooling|max_pooling"),
    ("addition", r"ADD\b|Add\b|add\b"),
    ("subtraction", r"SUB\b|Subtract|subtract"),
    ("product", r"MUL\b|Multiply|mul\b"),
    ("division", r"DIV\b|Divide|div\b"),
    ("maximum", r"MAXIMUM|Maximum|maximum"),
    ("minimum", r"MINIMUM|Minimum|minimum"),
    ("squared difference", r"SQUARED_DIFFERENCE|Squared Difference"),
    ("reciprocal square root", r"RSQRT|Reciprocal Square Root|rsqrt"),
    ("square root", r"SQRT|Square Root|sqrt"),
    ("sigmoid", r"LOGISTIC|Sigmoid|sigmoid"),
    ("gelu", r"GELU|Gelu|gelu"),
    ("hard swish", r"HARD_SWISH|HardSwish|hard_swish"),
    ("relu", r"RELU|Clamp|ReLU|relu"),
    ("transpose", r"TRANSPOSE|Transpose|transpose"),
    ("reshape", r"RESHAPE|Static Reshape|Reshape|reshape|EXPAND_DIMS|SQUEEZE"),
    ("slice", r"STRIDED_SLICE|SLICE|Static Slice|Slice|slice"),
    ("concatenation", r"CONCATENATION|Concatenate|concat|Copy"),
    ("split", r"SPLIT|Even Split|split"),
    ("padding", r"PAD|Constant Pad|pad"),
    ("resizing", r"RESIZE_BILINEAR|Static Resize Bilinear|resize"),
    ("negation", r"NEG\b|Negate|neg\b"),
    ("exponential", r"EXP\b|Exp\b|exp\b"),
    ("greatest over an axis", r"REDUCE_MAX|Reduce Max|reduce_maximum"),
    ("sum over an axis", r"SUM\b|Sum\b|Reduce Sum|reduce_sum"),
    (
        "space and depth",
        r"SPACE_TO_DEPTH|DEPTH_TO_SPACE|(?:Space|Depth) To |\w+_to_(?:space|depth)",
    ),
    ("quantisation", r"QUANTIZE|DEQUANTIZE|Convert|quantize"),
)
# What XNNPACK runs a convolution of the file as: one of a single tap is a matrix product.
_RUN_AS = {
    "fully connected": ("fully connected", "convolution"),
    "convolution": ("convolution", "depthwise convolution"),
}
_WORTH = {True: 1000, False: 999}  # of a pair: among as many, those of one name
_FAMILY_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _FAMILIES)


def family(kind: str) -> str | None:
    """What an operator does, whoever names it; None if unknown."""
    kind = kind.removeprefix(_DELEGATE)
    return next((name for name, pattern in _FAMILY_PATTERNS if pattern.match(kind)), None)


def attribute(operators: Sequence[dict], graph: Sequence[Node] = ()) -> list[str]:
    """The part of each operator of a profile.

    Operators of LiteRT's own kernels carry their layer, or at least their tensor, in their name.
    Those of a delegate do not ("Delegate/Convolution (NHWC, F32) IGEMM:4"; LiteRT 2.3 writes
    "Delegate/.." before the kind and names them all by the delegate's output): they are matched,
    in order, with the operators of the model that do the same. What matches nothing is attributed
    to nothing: no part is given time that may be another's.

    Args:
        operators: dicts with "kind" and "name", in run order.
        graph: the model's operators in run order (`read_graph`); without it operators of
            delegates are attributed to nothing.

    Returns:
        A part for each operator, or `UNKNOWN`, or `RUNTIME` for what is no operator.
    """
    part_of_tensor = {node.name: node.part for node in graph}
    found = []
    for operator in operators:
        layer = layer_name(operator["name"])
        tensor = re.sub(r"^\[(.*)\]:\w+$", r"\1", operator["name"])
        if _RUNTIME_KIND.match(operator["kind"]):
            found.append(RUNTIME)
        elif is_delegated(operator):
            found.append(None)
        elif tensor in part_of_tensor:
            found.append(part_of_tensor[tensor])
        else:
            found.append(part_of_layer(layer) if layer else None)
    open_places = [number for number, part in enumerate(found) if part is None]
    pairs = _align(
        [family(operators[number]["kind"]) for number in open_places],
        [family(node.kind) for node in graph],
    )
    for place, node in pairs:
        found[open_places[place]] = graph[node].part
    return [part or UNKNOWN for part in found]


def is_delegated(operator: dict) -> bool:
    """Whether a row of a profile is a kernel of a delegate, whose name tells no layer."""
    return operator["kind"].startswith(_DELEGATE) or operator["name"].startswith(_DELEGATE)


def _align(left, right):
    """Pairs of entries that fit, in order, as many as possible (longest common subsequence)."""
    rows, columns = len(left), len(right)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows - 1, -1, -1):
        below, here, fitting = best[row + 1], best[row], _RUN_AS.get(left[row], (left[row],))
        for column in range(columns - 1, -1, -1):
            if left[row] is not None and right[column] in fitting:
                here[column] = max(
                    below[column + 1] + _WORTH[left[row] == right[column]],
                    below[column],
                    here[column + 1],
                )
            else:
                here[column] = max(below[column], here[column + 1])
    pairs, row, column = [], 0, 0
    while row < rows and column < columns:
        if best[row][column] == best[row + 1][column]:
            row += 1
        elif best[row][column] == best[row][column + 1]:
            column += 1
        else:
            pairs.append((row, column))
            row, column = row + 1, column + 1
    return pairs
