"""Which part of a model an operator belongs to, by the stable names of the model's layers."""

import re
from collections.abc import Sequence

# The first rule whose expression matches the beginning of the layer's name wins.
PARTS = (
    (r"stem", "stem"),
    (r"(?:head|classifier|distillation|predictions|logits|top)", "head"),
    (r"(?:.*_)?(?:mobile_to_former|former_to_mobile)", "bridge"),
    (r"(?:tokens|(?:.*_)?former)", "Former"),
    (r"(?:.*_)?mobile", "Mobile"),
    (r"(?:.*_)?(?:attention|feed_forward|transformer)", "attention blocks"),
    (r"stage\d+", "convolution blocks"),
    (r"(?:preprocessing|rescaling|normalization)", "preprocessing"),
)
UNKNOWN = "not attributed"
RUNTIME = "runtime"

_RUNTIME_KIND = re.compile(
    r"AllocateTensors|ModifyGraphWithDelegate|LiteRT::|ResetVariables|.*buffer ", re.IGNORECASE
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
    ("slice", r"STRIDED_SLICE|SLICE|Static Slice|slice"),
    ("concatenation", r"CONCATENATION|Concatenate|concat"),
    ("split", r"SPLIT|Even Split|split"),
    ("padding", r"PAD|Constant Pad|pad"),
    ("resizing", r"RESIZE_BILINEAR|Static Resize Bilinear|resize"),
    ("quantisation", r"QUANTIZE|DEQUANTIZE|Convert|quantize"),
)
_FAMILY_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _FAMILIES)
_PART_PATTERNS = tuple((re.compile(pattern), part) for pattern, part in PARTS)
_LAYER = re.compile(
    r"stem(?![a-z])|stage\d+(?![a-z\d])|head(?![a-z])|tokens(?![a-z])|classifier|distillation"
    r"|predictions|logits|preprocessing|rescaling"
)


def family(kind: str) -> str | None:
    """What an operator does, whoever names it; None if unknown."""
    return next((name for name, pattern in _FAMILY_PATTERNS if pattern.match(kind)), None)


def layer_name(operator_name: str) -> str | None:
    """The layer in a tensor's or operator's name, e.g. `[model/stem_conv_1/Relu;..]:3`."""
    for component in re.split(r"[/;\[\]:]", operator_name):
        if _LAYER.match(component):
            return component
    return None


def part_of_layer(layer: str) -> str:
    return next((part for pattern, part in _PART_PATTERNS if pattern.match(layer)), UNKNOWN)


def attribute(operators: Sequence[dict], graph: Sequence[tuple[str, str]] = ()) -> list[str]:
    """The part of each operator of a profile.

    Operators of LiteRT's own kernels carry their layer in their name. Those of a delegate do
    not ("Delegate/Convolution (NHWC, F32) IGEMM:4"): they are matched, in order, with the
    operators of the model that do the same. What matches nothing belongs to the part that its
    neighbours on both sides belong to, or else to none.

    Args:
        operators: dicts with "kind" and "name", in run order.
        graph: (kind, tensor name) of the model's operators in run order; without it operators
            of delegates are attributed to nothing.

    Returns:
        A part for each operator, or `UNKNOWN`, or `RUNTIME` for what is no operator.
    """
    found = []
    for operator in operators:
        layer = layer_name(operator["name"])
        if _RUNTIME_KIND.match(operator["kind"]):
            found.append(RUNTIME)
        else:
            found.append(part_of_layer(layer) if layer else None)
    open_places = [number for number, part in enumerate(found) if part is None]
    graph_parts = _fill([_graph_part(name) for _, name in graph])
    pairs = _align(
        [family(operators[number]["kind"]) for number in open_places],
        [family(kind) for kind, _ in graph],
    )
    for place, node in pairs:
        found[open_places[place]] = graph_parts[node]
    return [part or UNKNOWN for part in _fill(found)]


def _graph_part(tensor_name):
    layer = layer_name(tensor_name)
    return part_of_layer(layer) if layer else None


def _fill(parts):
    """Gives places without a part that of both neighbours where these agree (or of the one)."""
    filled = list(parts)
    known = [number for number, part in enumerate(parts) if part and part != RUNTIME]
    for number, part in enumerate(parts):
        if part is None and known:
            before = max((k for k in known if k < number), default=None)
            after = min((k for k in known if k > number), default=None)
            neighbours = {parts[k] for k in (before, after) if k is not None}
            if len(neighbours) == 1:
                filled[number] = neighbours.pop()
    return filled


def _align(left, right):
    """Pairs of equal entries in order, as many as possible (longest common subsequence)."""
    rows, columns = len(left), len(right)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows - 1, -1, -1):
        below, here = best[row + 1], best[row]
        for column in range(columns - 1, -1, -1):
            if left[row] is not None and left[row] == right[column]:
                here[column] = below[column + 1] + 1
            else:
                here[column] = max(below[column], here[column + 1])
    pairs, row, column = [], 0, 0
    while row < rows and column < columns:
        if left[row] is not None and left[row] == right[column]:
            pairs.append((row, column))
            row, column = row + 1, column + 1
        elif best[row + 1][column] >= best[row][column + 1]:
            row += 1
        else:
            column += 1
    return pairs


def read_graph(model_path) -> list[tuple[str, str]]:
    """(kind, name of the first output) of each operator of a `.tflite`, in run order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(model_path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    names = {details["index"]: details["name"] for details in interpreter.get_tensor_details()}
    return [
        (operator["op_name"], names.get(int(operator["outputs"][0]), ""))
        for operator in interpreter._get_ops_details()
    ]
