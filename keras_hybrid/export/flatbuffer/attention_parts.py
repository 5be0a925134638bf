"""Attention over large maps, part by part: what a core's caches hold."""

import copy
import math

import numpy as np

from keras_hybrid.export.flatbuffer.file import TFLiteFile

# Of a map of attention at a time, in bytes. DeepLabv3-MobileViT's 16 maps of 1024 x 1024 floats
# take 0.84 of the time in parts of 4 MiB, 0.87 and 0.86 of 2 and 1, and 0.93 of half a MiB (one
# x86 core, 1 MiB of L2). Maps that fit as they are gain nothing.
LARGEST = 4 * 2**20
LEAST_ROWS = 64  # of a part: each has to lay out the keys and values anew
MOST_JOINED = 4  # of one concatenation, as XNNPACK takes them
VERSION = {4: 1, 1: 2}  # of TFLite's SLICE and CONCATENATION, by the bytes of a value


def part_attention(file: TFLiteFile):
    """Writes softmax(a b) c over large maps as the same of some batch items or rows at a time.

    A runtime computes each operator for all that it is asked for before the next one: all logits,
    then the softmax of them all, then what is read from it. And a converter lays out what is
    independent operator by operator, too, so that parts have to be made after it.
    """
    from ai_edge_litert import schema_py_generated as schema

    for graph in file.model.subgraphs:
        _Parting(file, graph, schema).run()


class _Parting:
    """One graph's operators."""

    def __init__(self, file, graph, schema):
        self.file, self.graph, self.schema = file, graph, schema
        self.spare = set()  # tensors whose place parts take
        self.ends = {int(x) for x in graph.outputs}
        self.computed = {int(x) for x in graph.inputs}
        self.producer = {}
        self.readers = {}
        for operator in graph.operators:
            self.computed.update(map(int, operator.outputs))
            self.producer.update((int(x), operator) for x in operator.outputs)
            for index in operator.inputs:
                self.readers.setdefault(int(index), []).append(operator)

    def run(self):
        operators = []
        for operator in self.graph.operators:
            operators.append(operator)
            chain = self._attention(operator)
            parts = self._parts(chain) if chain else []
            if parts:
                gone = {id(x) for x in chain}
                operators = [x for x in operators if id(x) not in gone] + parts
        self.graph.operators = operators

    def _attention(self, last):
        """The operators from the product of queries and keys to the one with values, or None."""
        kinds = self.schema.BuiltinOperator
        between = (kinds.QUANTIZE, kinds.DEQUANTIZE, kinds.MUL, kinds.DIV, kinds.ADD, kinds.SUB)
        if self.file.kind(last) != kinds.BATCH_MATMUL:
            return None
        chain = [last]
        while len(chain) == 1 or self.file.kind(chain[0]) != kinds.BATCH_MATMUL:
            index = int(chain[0].inputs[self._place(chain[0])])
            operator = self.producer.get(index)
            if operator is None or len(self.readers[index]) > 1 or index in self.ends:
                return None
            if self.file.kind(operator) not in (*between, kinds.SOFTMAX, kinds.BATCH_MATMUL):
                return None
            chain.insert(0, operator)
        first, *inner, _ = chain
        if [self.file.kind(x) for x in inner].count(kinds.SOFTMAX) != 1:
            return None
        return chain if self._has_parts(first, inner, last) else None

    def _place(self, operator):
        """Which of the inputs is the map: the first, or the one beside a constant."""
        computed = [n for n, index in enumerate(operator.inputs) if int(index) in self.computed]
        return computed[0] if len(computed) == 1 else 0

    def _has_parts(self, first, inner, last):
        """Whether batch items and rows are independent, of types that are known."""
        if first.builtinOptions.adjX or last.builtinOptions.adjX:
            return False
        operands = [int(x) for x in (*first.inputs, last.inputs[1])]
        others = [int(x) for operator in inner for x in operator.inputs]
        others = [x for x in others if x not in self.computed]
        maps = {self._shape(operator.outputs[0]) for operator in (first, *inner)}
        ends = [int(last.outputs[0]), *operands]
        sizes = [self._item_size(x) for x in (*ends, *(x.outputs[0] for x in (first, *inner)))]
        batches = {self._shape(index)[:-2] for index in ends}
        return (
            all(index in self.computed for index in operands)
            and all(math.prod(self._shape(index)) == 1 for index in others)
            and all(sum(int(x) in self.computed for x in op.inputs) == 1 for op in inner)
            and len(maps) == 1
            and batches == {next(iter(maps))[:-2]}
            and all(batches)
            and all(sizes)
        )

    def _parts(self, chain):
        """What takes the place of the chain; nothing for maps that are small enough."""
        first, last = chain[0], chain[-1]
        *batch, rows, _ = shape = self._shape(first.outputs[0])
        axis = int(np.argmax(batch))
        item_size = max(self._item_size(operator.outputs[0]) for operator in chain[:-1])
        number = math.ceil(math.prod(shape) * item_size / LARGEST)
        of_batch = min(number, batch[axis])
        of_rows = max(1, min(math.ceil(number / of_batch), rows // LEAST_ROWS))
        if of_batch * of_rows == 1:
            return []
        self.spare = {int(operator.outputs[0]) for operator in chain[:-1]}
        operators, results = [], []
        for items in _ranges(batch[axis], of_batch):
            operands = [int(x) for x in (*first.inputs, last.inputs[1])]
            if of_batch > 1:
                operands = [self._cut(x, axis, items, operators) for x in operands]
            queries, keys, values = operands
            of_items = []
            for some in _ranges(rows, of_rows):
                part = queries if of_rows == 1 else self._cut(queries, -2, some, operators)
                for operator in chain:
                    like = int(operator.outputs[0])
                    inputs = list(operator.inputs)
                    inputs[self._place(operator)] = part
                    if operator in (first, last):
                        inputs[1] = keys if operator is first else values
                    part = self._tensor(like, (*self._shape(part)[:-1], self._shape(like)[-1]))
                    operators.append(_like(operator, inputs, part))
                of_items.append(part)
            results.append(self._joined(of_items, -2, operators))
        self._joined(results, axis, operators)
        self.graph.tensors.pop()  # the last operator's output, which there is already
        operators[-1].outputs = last.outputs
        return operators

    def _shape(self, index):
        shape = self.graph.tensors[int(index)].shape  # of a number None
        return () if shape is None else tuple(map(int, shape))

    def _item_size(self, index):
        """Bytes of a value; 0 of a type that is left alone."""
        kinds = self.schema.TensorType
        return {kinds.FLOAT32: 4, kinds.INT8: 1}.get(self.graph.tensors[int(index)].type, 0)

    def _tensor(self, like, shape):
        """Index of a tensor of this shape, else as another, by whose name it is known."""
        tensors = self.graph.tensors
        if like in self.spare:
            self.spare.remove(like)
            tensor, index = tensors[like], like
        else:
            tensor, index = copy.copy(tensors[like]), len(tensors)
            tensors.append(tensor)
        tensor.shape, tensor.shapeSignature = np.array(shape, "int32"), None
        return index

    def _cut(self, index, axis, some, operators):
        """Index of the part of a tensor that a range of an axis is."""
        schema, shape = self.schema, list(self._shape(index))
        starts = [0] * len(shape)
        starts[axis], shape[axis] = some.start, len(some)
        part = self._tensor(index, shape)
        operator = self._operator(schema.BuiltinOperator.SLICE, part)
        operator.inputs = np.array([index, self._integers(starts), self._integers(shape)], "int32")
        operator.builtinOptionsType = schema.BuiltinOptions.SliceOptions
        operator.builtinOptions = schema.SliceOptionsT()
        operators.append(operator)
        return part

    def _joined(self, parts, axis, operators):
        """Index of the parts' concatenation; of a single part itself."""
        while len(parts) > 1:
            groups = _ranges(len(parts), math.ceil(len(parts) / MOST_JOINED))
            parts = [self._concatenation([parts[n] for n in x], axis, operators) for x in groups]
        return parts[0]

    def _concatenation(self, parts, axis, operators):
        if len(parts) == 1:
            return parts[0]
        schema, shape = self.schema, list(self._shape(parts[0]))
        shape[axis] = sum(self._shape(part)[axis] for part in parts)
        whole = self._tensor(parts[0], shape)
        operator = self._operator(schema.BuiltinOperator.CONCATENATION, whole)
        operator.inputs = np.array(parts, "int32")
        operator.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
        operator.builtinOptions = schema.ConcatenationOptionsT()
        operator.builtinOptions.axis = axis % len(shape)
        operators.append(operator)
        return whole

    def _operator(self, kind, output):
        operator = self.schema.OperatorT()
        operator.outputs = np.array([output], "int32")
        operator.opcodeIndex = self.file.code_index(kind, VERSION[self._item_size(output)])
        return operator

    def _integers(self, values):
        """Index of a new constant."""
        buffer, tensor = self.schema.BufferT(), self.schema.TensorT()
        buffer.data = np.array(values, "<i4").view("uint8")
        tensor.name, tensor.shape = b"", np.array([len(values)], "int32")
        tensor.type = self.schema.TensorType.INT32
        tensor.buffer = len(self.file.model.buffers)
        self.file.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


def _like(operator, inputs, output):
    """The operator, for other tensors."""
    operator = copy.copy(operator)
    operator.inputs, operator.outputs = np.array(inputs, "int32"), np.array([output], "int32")
    return operator


def _ranges(size, number):
    """So many ranges, of about equal length, that make up the size."""
    ends = [size * n // number for n in range(number + 1)]
    return [range(*pair) for pair in zip(ends, ends[1:], strict=False)]
