"""Writes TFLite's schema objects in few bytes: what is equal is stored once."""

import hashlib

import flatbuffers
import numpy as np


class _SharingBuilder(flatbuffers.Builder):
    """A builder that refers to a vector written before rather than write an equal one.

    A file in int8 holds a scale and a zero point for each channel of each kernel and bias: as
    64-bit zeros alone, these are a tenth of a small network.
    """

    def __init__(self, size):
        super().__init__(size)
        self._written = {}

    def CreateNumpyVector(self, x):
        key = (x.dtype.str, x.shape, _digest(x))
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


class _Once:
    """An object of the schema that several others refer to."""

    def __init__(self, content):
        self._content = content
        self._position = None

    def Pack(self, builder):
        if self._position is None:
            self._position = self._content.Pack(builder)
        return self._position


def pack(model) -> bytes:
    """The content of a `.tflite` from the schema's `ModelT`, which is used up."""
    _share_buffers(model)
    _share_tables(model)
    # As large as it will be: a builder that grows copies what it has.
    sizes = [len(buffer.data) for buffer in model.buffers if buffer.data is not None]
    builder = _SharingBuilder(sum(sizes) + 1024 * (1 + len(sizes)))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _share_buffers(model):
    """One buffer for equal constants, and the empty first one for all that is computed."""
    number, kept = {_digest(b""): 0}, [model.buffers[0]]

    def place_of(old):
        data = model.buffers[old].data
        content = _digest(b"" if data is None else data)
        if content not in number:
            number[content] = len(kept)
            kept.append(model.buffers[old])
        return number[content]

    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = place_of(tensor.buffer)
    for entry in model.metadata or []:
        entry.buffer = place_of(entry.buffer)
    model.buffers = kept


def _digest(data):
    """Stands for data in comparisons: kernels are large, and copies of them would be kept."""
    return hashlib.blake2b(np.ascontiguousarray(np.frombuffer(data, "uint8"))).digest()


def _share_tables(model):
    """One table for equal quantisations, and for equal options of operators."""
    known = {}

    def once(table):
        return None if table is None else known.setdefault(_content(table), _Once(table))

    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.quantization = once(tensor.quantization)
        for operator in graph.operators:
            operator.builtinOptions = once(operator.builtinOptions)


def _content(table):
    """What tells a table of the schema from another, to be compared."""
    fields = {
        name: (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else str(value)
        for name, value in vars(table).items()
    }
    return type(table).__name__, tuple(sorted(fields.items()))
