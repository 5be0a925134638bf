"""The operators of a `.tflite`: the layer, the part and the multiply-adds of each.

The converter names an operator by its output, and folds a norm's scale into the products that read
the norm: these then bear the norm's name. So a product is named by what reads it, where its own
name is a norm's, and what has no name of a layer by what it feeds or is fed by.
"""

import dataclasses
import math
import re

from keras_hybrid import layer_names
from keras_hybrid.litert import Operator, list_operators, open_interpreter

UNKNOWN = "not attributed"

_NORM = re.compile(r".*(?:_|^)(?:layer_)?norm(?:alization)?\d*(?:_\d+)?")
_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
_SAME_VALUES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE", "SUM")


def layer_name(operator_name: str) -> str | None:
    """The layer in a tensor's or operator's name, e.g. `[model/stem_conv_1/Relu;..]:3`."""
    for component in re.split(r"[/;\[\]:]", operator_name):
        if layer_names.is_layer_name(component):
            return component
    return None


def part_of_layer(layer: str) -> str:
    """The part of a layer, one of `keras_hybrid.layer_names.PARTS` or `UNKNOWN`."""
    return layer_names.part_of_layer(layer) or UNKNOWN


@dataclasses.dataclass(frozen=True)
class Node:
    """An operator of a model.

    Attributes:
        kind: the flatbuffer's word for what it does.
        name: of its first output.
        layer: the layer that it belongs to; None if the graph does not tell.
        multiply_adds: of a convolution or matrix product, as the paper and the Keras model count
            them: without products by zeros that only stand for structure (a grouped convolution
            written densely, a kernel cut into pieces, heads told apart by masks, copies written as
            convolutions). What the converter computes once, such as what only reads learned
            tokens, is not in the file.
    """

    kind: str
    name: str
    layer: str | None
    multiply_adds: int = 0

    @property
    def part(self) -> str | None:
        return part_of_layer(self.layer) if self.layer else None


def read_graph(model_path) -> list[Node]:
    """The operators of a `.tflite` in run order.

    The list is empty with a LiteRT that does not list its operators (the method is private).
    """
    interpreter = open_interpreter(model_path, xnnpack=False)
    operators = list_operators(interpreter)
    return [] if operators is None else _Graph(interpreter, operators).nodes()


def multiply_adds_by_part(model_path) -> dict[str, int]:
    """Multiply-adds of one inference by part of the network; see `Node.multiply_adds`."""
    totals: dict[str, int] = {}
    for node in read_graph(model_path):
        if node.multiply_adds:
            part = node.part or UNKNOWN
            totals[part] = totals.get(part, 0) + node.multiply_adds
    return totals


class _Graph:
    """Who makes and who reads each tensor of a file."""

    def __init__(self, interpreter, operators: list[Operator]):
        self.interpreter = interpreter
        self.tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
        self.operators = [(each.name, each.inputs, each.outputs) for each in operators]
        self.producer = {t: n for n, (_, _, outs) in enumerate(self.operators) for t in outs}
        self.readers: dict[int, list[int]] = {}
        for number, (_, inputs, _) in enumerate(self.operators):
            for tensor in inputs:
                self.readers.setdefault(tensor, []).append(number)

    def nodes(self):
        names = [self._name(outputs[0]) for _, _, outputs in self.operators]
        layers = self._layers([layer_name(name) for name in names])
        return [
            Node(kind, name, layer, self._multiply_adds(number))
            for number, ((kind, _, _), name, layer) in enumerate(
                zip(self.operators, names, layers, strict=True)
            )
        ]

    def _name(self, tensor):
        return self.tensors[tensor]["name"] if tensor in self.tensors else ""

    def _shape(self, tensor):
        return [int(size) for size in self.tensors[tensor]["shape"]]

    def _layers(self, layers):
        """The layers with products named by their readers and gaps filled along the edges."""
        own = list(layers)
        for number in reversed(range(len(own))):
            kind, _, outputs = self.operators[number]
            named_by_norm = layers[number] and _NORM.fullmatch(layers[number])
            if kind not in _PRODUCTS or not named_by_norm:
                continue
            seen, waiting = set(), list(self.readers.get(outputs[0], []))
            while waiting:
                reader = waiting.pop(0)
                if reader in seen:
                    continue
                seen.add(reader)
                if own[reader] and not _NORM.fullmatch(own[reader]):
                    own[number] = own[reader]
                    break
                waiting += self.readers.get(self.operators[reader][2][0], [])
        edges = [
            (self.producer[tensor], number)
            for number, (_, inputs, _) in enumerate(self.operators)
            for tensor in inputs
            if tensor in self.producer
        ]
        for source, reader in reversed(edges):
            own[source] = own[source] or own[reader]
        for source, reader in edges:
            own[reader] = own[reader] or own[source]
        return own

    def _multiply_adds(self, number):
        kind, inputs, outputs = self.operators[number]
        if kind not in _PRODUCTS:
            return 0
        size = math.prod(self._shape(outputs[0]))
        if kind == "BATCH_MATMUL":
            left = self._shape(inputs[0])
            depth = left[-1] * left[-2] // self._rows_of_product(inputs, outputs)
            density = min(
                self._density_before(inputs[0]),
                self._density_before(inputs[1]),
                self._density_after(outputs[0]),
            )
            return round(size * depth * density)
        shape = self._shape(inputs[1])
        if kind == "DEPTHWISE_CONV_2D":
            if shape[1] * shape[2] == 1:
                return 0  # one tap only scales, as a norm does
            weights = self._constant(inputs[1])
            used = math.prod(shape) if weights is None else int((weights != 0).sum())
            return size // shape[3] * (used or math.prod(shape))
        positions = size // shape[0]
        weights = self._constant(inputs[1])
        if weights is None:
            return positions * math.prod(shape)
        flat = weights.reshape(shape[0], -1)
        used = int((flat != 0).sum())
        copies = used == shape[0] and bool(((flat != 0).sum(axis=1) == 1).all())
        if copies and len(set(flat[flat != 0].tolist())) == 1:
            return 0  # each output is one input
        return positions * (used or math.prod(shape))

    def _rows_of_product(self, inputs, outputs):
        """Rows of the left factor that remain in the product, whatever is transposed."""
        rows = self._shape(outputs[0])[-2]
        left = self._shape(inputs[0])
        return rows if rows in left[-2:] else left[-2]

    def _constant(self, tensor):
        if tensor in self.producer:
            return None
        try:
            return self.interpreter.get_tensor(tensor)
        except ValueError:  # an input
            return None

    def _mask_density(self, operator):
        """The share of ones in the 0/1 mask that a MUL takes; 1 for any other operator."""
        kind, inputs, _ = self.operators[operator]
        if kind != "MUL":
            return 1.0
        for tensor in inputs:
            mask = self._constant(tensor) if tensor >= 0 else None
            if mask is not None and mask.ndim > 2 and set(mask.reshape(-1).tolist()) == {0, 1}:
                return float(mask.mean())
        return 1.0

    def _density_before(self, tensor):
        producer = self.producer.get(tensor)
        if producer is None:
            constant = self._constant(tensor)
            return 1.0 if constant is None else float((constant != 0).mean())
        kind, inputs, _ = self.operators[producer]
        if kind in _SAME_VALUES:
            return self._density_before(inputs[0])
        return self._mask_density(producer)

    def _density_after(self, tensor):
        readers = self.readers.get(tensor, [])
        if len(readers) != 1:
            return 1.0
        kind, _, outputs = self.operators[readers[0]]
        return (
            self._density_after(outputs[0])
            if kind in _SAME_VALUES
            else self._mask_density(readers[0])
        )
