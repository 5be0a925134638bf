"""Writes TFLite's schema objects in few bytes: what is equal is stored once."""

import hashlib

import flatbuffers
import numpy as np


class _SharingBuilder(flatbuffers.Builder):
    """A builder that refers to what it has written rather than write an equal string, vector or
    table.

    A file in int8 holds a scale and a zero point for each channel of each kernel and bias: as
    64-bit zeros alone, these are a tenth of a small network. The fields of a table lie in the
    order of their sizes, as in files of the C++ library, so that none is padded.
    """

    def __init__(self, size):
        super().__init__(size)
        self._written = {}
        self._fields = []

    def CreateNumpyVector(self, x):
        return self._once((x.dtype.str, x.shape, _digest(x)), super().CreateNumpyVector, x)

    def CreateString(self, s, encoding="utf-8", errors="strict"):
        content = s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
        return self._once(content, super().CreateString, content)

    def StartObject(self, numfields):
        super().StartObject(numfields)
        self._fields = []

    def PrependSlot(self, flags, o, x, d):
        if x != d:
            self._fields.append((flags.bytewidth, o, flags, x))

    def PrependUOffsetTRelativeSlot(self, o, x, d):
        if x != d:
            self._fields.append((flatbuffers.number_types.UOffsetTFlags.bytewidth, o, None, x))

    def EndObject(self):
        fields = tuple(sorted(self._fields, key=lambda field: (-field[0], field[1])))
        position = self._once(("table", fields), self._write_table, fields)
        self.nested = False  # also where there was nothing to write
        return position

    def _write_table(self, fields):
        for _, slot, flags, value in fields:
            if flags is None:
                super().PrependUOffsetTRelativeSlot(slot, value, None)
            else:
                super().PrependSlot(flags, slot, value, None)
        return super().EndObject()

    def _once(self, key, write, content):
        if key not in self._written:
            self._written[key] = write(content)
        return self._written[key]


def pack(model) -> bytes:
    """The content of a `.tflite` from the schema's `ModelT`, which is used up."""
    _share_buffers(model)
    # As large as it will be: a builder that grows copies what it has.
    sizes = [len(buffer.data) for buffer in model.buffers if buffer.data is not None]
    builder = _SharingBuilder(sum(sizes) + 1024 * (1 + len(sizes)))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(memoryview(builder.Bytes)[builder.Head() :])  # `Output` copies, too


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
