"""What the converter refuses, in terms of the model: which operator, of which layer, what to do."""

import re
from collections.abc import Callable, Iterable

from keras_hybrid.export.flatbuffer.file import TFLiteFile

# "Quantization to 16x8-bit not yet supported for op: 'NEG'.", by TFLite's name of it.
NOT_IN_INT16 = re.compile(r"not yet supported for op: '(\w+)'")
# "loc(callsite(fused["Erfc:", "model/gelu/Erfc@__inference_serve_1"] ...)): 'tf.Erfc' op is neither
# a custom op nor a flex op", by TensorFlow's name and its scope.
NOT_IN_TFLITE = re.compile(
    r'error: loc\((?:callsite\()?fused\["\w+:", "([^"@]+)[^\n]*\'tf\.(\w+)\' op is neither'
)
# 'loc(fused["Mul:", "model/square/Mul@__inference_serve_1"] ...): 'tfl.reshape' op quantization
# parameters violate the same scale constraint: ...', by one operator or several that it fused.
PLACE = re.compile(r'fused\["\w+:", "([^"@/]+/[^"@]+)@')
REASON = re.compile(r"error: .*?('\w+\.\w+' op [^\n]*)")
MOST_PLACES = 8


def explained(
    error: Exception, precision: str, names: set[str], convert_float: Callable[[], bytes]
) -> RuntimeError:
    """An error of the converter as one that a user can act on.

    Args:
        error: that converting raised.
        precision: of the file that was asked for.
        names: of the model's layers.
        convert_float: makes the file of the same model in float32, whose operators have names.

    Returns: the error to raise from it.
    """
    text = str(error)
    if kinds := set(NOT_IN_INT16.findall(text)):
        found = _operators_of(TFLiteFile.parse(convert_float()), kinds, names)
        return RuntimeError(
            f"TFLite has fewer operators in int16 than in float. It lacks: {_listed(found)}. Write "
            "these with other layers, or export with another precision, such as 'float16' or "
            f"'int8_cpu'. Received: precision={precision!r}"
        )
    found = [
        (x, f"in {place_in_model(scope, names)!r}") for scope, x in NOT_IN_TFLITE.findall(text)
    ]
    if found:
        return RuntimeError(
            f"TFLite has no operator for these of TensorFlow: {_listed(found)}. Write them with "
            f"other layers. Received: precision={precision!r}"
        )
    first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    where = remedy = ""
    if reason := REASON.search(first):
        places = list(dict.fromkeys(place_in_model(x, names) for x in PLACE.findall(first)))
        first = reason[1]
        where = f" at {', '.join(map(repr, places))}" if places else ""
        layers = [x.split("/")[0] for x in places if x.split("/")[0] in names]
        if layers and precision in ("int8", "int8_cpu"):
            remedy = f". In float it may do: `quantize(..., keep_float=({layers[0]!r},))`"
    return RuntimeError(
        f"TensorFlow's converter refuses this model{where}: {first[:600]}{remedy}. "
        f"Received: precision={precision!r}"
    )


def _operators_of(file, kinds, names):
    """The operators of these kinds, each with where it is."""
    found = []
    for graph in file.model.subgraphs:
        for operator in graph.operators:
            kind = file.operator_name(operator)
            if kind in kinds:
                # What an output of the model is called says nothing: its input's name does.
                given, taken = (
                    graph.tensors[x[0]].name for x in (operator.outputs, operator.inputs)
                )
                place, before = (place_in_model(x.decode(), names) for x in (given, taken))
                found.append((kind, f"in {place!r}" if place else f"after {before!r}"))
    return [*found, *((kind, "") for kind in sorted(kinds - {kind for kind, _ in found}))]


def place_in_model(scope: str, names: set[str]) -> str:
    """The name scope of an operator within its model, with the layer's name as the model has it."""
    layer, *rest = scope.split(";")[0].partition("/")[2].split("/")
    if layer not in names and re.sub(r"_\d+$", "", layer) in names:
        layer = re.sub(r"_\d+$", "", layer)  # Keras numbers scopes of a layer's later calls
    return "/".join([layer, *rest])


def _listed(found: Iterable[tuple[str, str]]) -> str:
    """Each operator with where it is."""
    words = [kind + (f" ({place})" if place else "") for kind, place in dict.fromkeys(found)]
    more = len(words) - MOST_PLACES
    return ", ".join(words[:MOST_PLACES]) + (f" and {more} more" if more > 0 else "")
