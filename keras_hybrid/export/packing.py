"""Writes TFLite's schema objects so that equal vectors are stored once."""

import flatbuffers


class _SharingBuilder(flatbuffers.Builder):
    """A builder that refers to a vector written before rather than write an equal one.

    A file in int8 holds a scale and a zero point for each channel of each kernel and bias: as
    64-bit zeros alone, these are a tenth of a small network.
    """

    def __init__(self, size):
        super().__init__(size)
        self._written = {}

    def CreateNumpyVector(self, x):
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def pack(model) -> bytes:
    """The content of a `.tflite` from the schema's `ModelT`."""
    builder = _SharingBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
