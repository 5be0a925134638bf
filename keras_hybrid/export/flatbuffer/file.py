"""A `.tflite` file that is edited: parsed once, packed once."""

import os
import struct
import zipfile
from pathlib import Path

import numpy as np

from keras_hybrid.export.flatbuffer.packing import pack


class TFLiteFile:
    """The objects of TFLite's schema that a `.tflite` holds, and the files attached to it.

    The functions beside this module (`remove_float_guards`, `merge_dense`, `shorten_names`)
    change it in place; whoever calls them packs it once at the end.

    Args:
        model: the schema's `ModelT`.
        attached: contents by name of the files that lie after the model, as a zip archive.

    Attributes:
        model: as given.
        attached: as given.
    """

    def __init__(self, model, attached: dict[str, bytes] | None = None):
        self.model = model
        self.attached = dict(attached or {})

    @classmethod
    def parse(cls, content: bytes) -> "TFLiteFile":
        """The file of a converter's output, without attached files."""
        from ai_edge_litert import schema_py_generated as schema

        return cls(schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)))

    @classmethod
    def read(cls, path: str | os.PathLike) -> "TFLiteFile":
        """The file at a path.

        Raises:
            ValueError: for a missing file, or one that is no `.tflite`.
        """
        from ai_edge_litert import schema_py_generated as schema

        path = Path(os.fsdecode(path))
        if not path.is_file():
            raise ValueError(f"`path` must be a .tflite file. Received: path={str(path)!r}")
        content = path.read_bytes()
        if len(content) < 8 or not schema.Model.ModelBufferHasIdentifier(content, 0):
            raise ValueError(f"The file is not a .tflite model. Received: path={str(path)!r}")
        try:
            file = cls.parse(content)
        except (struct.error, IndexError, TypeError, OverflowError, UnicodeDecodeError) as error:
            raise ValueError(
                "The .tflite is damaged, or was not copied whole: copy or convert it again. "
                f"Received: path={str(path)!r}, {len(content):,} bytes"
            ) from error
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                file.attached = {name: archive.read(name) for name in archive.namelist()}
        return file

    def write(self, path: str | os.PathLike):
        """Writes the file, which is used up: packing shares what is equal in it."""
        Path(os.fsdecode(path)).write_bytes(pack(self.model))
        if self.attached:
            with zipfile.ZipFile(path, "a") as archive:
                for name, content in self.attached.items():
                    archive.writestr(name, content)

    def kind(self, operator) -> int:
        """Number of an operator's kind, of the schema's `BuiltinOperator`."""
        return _number(self.model.operatorCodes[operator.opcodeIndex])

    def operator_name(self, operator) -> str:
        """Name of an operator's kind: "CONV_2D", or a custom operator's own."""
        from ai_edge_litert.schema_py_generated import BuiltinOperator

        code = self.model.operatorCodes[operator.opcodeIndex]
        if _number(code) == BuiltinOperator.CUSTOM:
            return code.customCode.decode()
        return enum_name(BuiltinOperator, _number(code))

    def operator_versions(self) -> dict[str, int]:
        """The highest version of each kind of operator that occurs, by name."""
        versions = {}
        for graph in self.model.subgraphs:
            for operator in graph.operators:
                name = self.operator_name(operator)
                version = self.model.operatorCodes[operator.opcodeIndex].version
                versions[name] = max(version, versions.get(name, 0))
        return versions

    def code_index(self, kind: int, version: int) -> int:
        """Where the model lists a kind of operator in a version or a higher one; added if new."""
        from ai_edge_litert import schema_py_generated as schema

        for index, code in enumerate(self.model.operatorCodes):
            if _number(code) == kind and code.version >= version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def entry(self, name: str) -> bytes | None:
        """One of the model's metadata entries by its name, or None."""
        for entry in self.model.metadata or []:
            if entry.name.decode() == name:
                return bytes(self.model.buffers[entry.buffer].data)
        return None

    def set_entry(self, name: str, content: bytes):
        """Adds a metadata entry, in place of one of that name."""
        from ai_edge_litert import schema_py_generated as schema

        kept = [entry for entry in self.model.metadata or [] if entry.name.decode() != name]
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, dtype=np.uint8)
        self.model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name, entry.buffer = name.encode(), len(self.model.buffers) - 1
        self.model.metadata = [*kept, entry]


def enum_name(enumeration, value: int) -> str:
    """The name that one of the schema's enumerations gives a number."""
    return next(name for name, number in vars(enumeration).items() if number == value)


def _number(code):
    # Files of old converters keep small codes in the deprecated field.
    return max(code.builtinCode, code.deprecatedBuiltinCode)
