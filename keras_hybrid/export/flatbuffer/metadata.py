"""TFLite metadata: what Android's Task Library and ML Model Binding read, and our own record.

The schema is TensorFlow Lite's metadata_schema.fbs; the numbers below are its fields' positions.
Label files lie behind the model as a zip archive, as that schema asks for.
"""

import json
import os
import zipfile
from dataclasses import asdict, dataclass

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from keras_hybrid.export.flatbuffer.packing import pack
from keras_hybrid.export.inspect import read_schema

METADATA_NAME = "TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
RECORD_NAME = "keras_hybrid"
LABEL_FILE = "labels.txt"
MINIMUM_PARSER_VERSION = "1.0.0"

# Positions of fields in the schema's tables.
_MODEL = {"name": 0, "description": 1, "version": 2, "subgraphs": 3, "author": 4, "license": 5}
_MODEL_PARSER_VERSION = 7
_SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS = 2, 3
_TENSOR = {"name": 0, "description": 1, "content": 3, "process_units": 4, "stats": 5, "files": 6}
_NORMALIZATION_OPTIONS = 1  # in the union of processing units
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2  # in the union of contents
_TENSOR_AXIS_LABELS = 2  # kind of an associated file
_RGB = 1


@dataclass(frozen=True)
class About:
    """Who made a model, and what it is.

    Attributes:
        name: what an app may show.
        description: one or two sentences.
        version: of the model.
        author: a person or organisation.
        licence: its name or text.
        preset: name of the published checkpoint, if it is one.
    """

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    licence: str = ""
    preset: str = ""


@dataclass(frozen=True)
class Normalization:
    """How pixels of 0 to 255 become the input: (pixel - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Metadata:
    """What `read_metadata` found.

    Attributes:
        about: name, description, version, author, licence and preset.
        normalization: of the input; None when the file states none.
        labels: of the output's classes, in order; empty when there are none.
        record: this package's own entries, such as the precision.
    """

    about: About
    normalization: Normalization | None
    labels: tuple[str, ...]
    record: dict


def add_metadata(
    path: str | os.PathLike,
    about: About,
    normalization: Normalization,
    labels: list[str] | None = None,
    labelled_output: int = 0,
    record: dict | None = None,
):
    """Writes metadata into a `.tflite`, in place.

    Args:
        path: of the file.
        about: what the model is.
        normalization: of its input.
        labels: of the classes, in order, for the output number `labelled_output`; None for none.
        labelled_output: which output the labels are for.
        record: entries for this package's own record.

    Raises:
        ValueError: for a file that is no `.tflite`, or labels with a line break in one.
    """
    from ai_edge_litert import schema_py_generated as schema

    if labels and any("\n" in label for label in labels):
        raise ValueError("A label must be one line. Received: labels with line breaks")
    model = read_schema(path)
    graph = model.subgraphs[0]
    tensors = [
        [graph.tensors[index].name.decode() for index in indices]
        for indices in (graph.inputs, graph.outputs)
    ]
    content = _pack(about, normalization, bool(labels), labelled_output, *tensors)
    entries = {METADATA_NAME: content}
    entries[RECORD_NAME] = json.dumps({**asdict(about), **(record or {})}).encode()
    model.metadata = [entry for entry in model.metadata or [] if entry.name.decode() not in entries]
    for name, data in entries.items():
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, dtype=np.uint8)
        model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, len(model.buffers) - 1
        model.metadata.append(entry)
    _shorten_names(graph)
    with open(path, "wb") as file:
        file.write(pack(model))
    if labels:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(LABEL_FILE, "\n".join(labels) + "\n")


def _shorten_names(graph):
    """Of tensors fused from several, the converter strings the names of all together."""
    for index, tensor in enumerate(graph.tensors):
        if index not in graph.inputs and index not in graph.outputs:
            tensor.name = tensor.name.split(b";")[0]


def read_metadata(path: str | os.PathLike) -> Metadata:
    """Reads the metadata of a `.tflite`.

    Raises:
        ValueError: for a file that is no `.tflite`, or has no metadata.
    """
    model = read_schema(path)
    entries = {
        entry.name.decode(): bytes(model.buffers[entry.buffer].data)
        for entry in model.metadata or []
    }
    content = entries.get(METADATA_NAME)
    if content is None or content[4:8] != METADATA_IDENTIFIER:
        raise ValueError(f"The file has no metadata. Received: path={str(path)!r}")
    root = Table(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))
    subgraph = _children(root, _MODEL["subgraphs"])[0]
    (image,) = _children(subgraph, _SUBGRAPH_INPUTS)
    normalization = None
    for unit in _children(image, _TENSOR["process_units"]):
        options = Table(content, unit.Indirect(unit.Pos + unit.Offset(_slot(1))))
        normalization = Normalization(_floats(options, 0), _floats(options, 1))
    files = [
        _string(file, 0)
        for output in _children(subgraph, _SUBGRAPH_OUTPUTS)
        for file in _children(output, _TENSOR["files"])
    ]
    labels = ()
    if files:
        with zipfile.ZipFile(path) as archive:
            labels = tuple(archive.read(files[0]).decode().splitlines())
    record = json.loads(entries.get(RECORD_NAME, b"{}"))
    about = About(
        **{name: _string(root, _MODEL[name]) for name in ("name", "description", "version")},
        author=_string(root, _MODEL["author"]),
        licence=_string(root, _MODEL["license"]),
        preset=record.get("preset", ""),
    )
    return Metadata(about, normalization, labels, record)


def read_record(path: str | os.PathLike) -> dict:
    """This package's own record in a `.tflite`, empty for a file that it did not make."""
    model = read_schema(path)
    for entry in model.metadata or []:
        if entry.name.decode() == RECORD_NAME:
            return json.loads(bytes(model.buffers[entry.buffer].data))
    return {}


def _pack(about, normalization, labelled, labelled_output, inputs, outputs):
    """The metadata as a flatbuffer."""
    builder = flatbuffers.Builder(1024)

    def strings(**fields):
        return {position: builder.CreateString(text) for position, text in fields.values()}

    def table(num_fields, offsets, numbers=()):
        builder.StartObject(num_fields)
        for position, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(position, offset, 0)
        for position, number in numbers:
            builder.PrependUint8Slot(position, number, 0)
        return builder.EndObject()

    def vector(offsets):
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def floats(values):
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return builder.EndVector()

    def content(kind, offset):
        return table(3, {1: offset}, [(0, kind)])

    lowest = [-m / s for m, s in zip(normalization.mean, normalization.std, strict=True)]
    highest = [(255 - m) / s for m, s in zip(normalization.mean, normalization.std, strict=True)]
    options = table(2, {0: floats(normalization.mean), 1: floats(normalization.std)})
    unit = table(2, {1: options}, [(0, _NORMALIZATION_OPTIONS)])
    image = table(
        7,
        {
            **strings(
                name=(_TENSOR["name"], inputs[0]),
                description=(_TENSOR["description"], "RGB image"),
            ),
            _TENSOR["content"]: content(_IMAGE_PROPERTIES, table(2, {}, [(0, _RGB)])),
            _TENSOR["process_units"]: vector([unit]),
            _TENSOR["stats"]: table(2, {0: floats(highest), 1: floats(lowest)}),
        },
    )
    results = []
    for index, name in enumerate(outputs):
        fields = {
            **strings(name=(_TENSOR["name"], name)),
            _TENSOR["content"]: content(_FEATURE_PROPERTIES, table(0, {})),
        }
        if labelled and index == labelled_output:
            file = table(
                5,
                strings(name=(0, LABEL_FILE), description=(1, "Names of the classes")),
                [(2, _TENSOR_AXIS_LABELS)],
            )
            fields[_TENSOR["files"]] = vector([file])
        results.append(table(7, fields))
    subgraph = table(10, {_SUBGRAPH_INPUTS: vector([image]), _SUBGRAPH_OUTPUTS: vector(results)})
    root = table(
        8,
        {
            **strings(
                name=(_MODEL["name"], about.name),
                description=(_MODEL["description"], about.description),
                version=(_MODEL["version"], about.version),
                author=(_MODEL["author"], about.author),
                licence=(_MODEL["license"], about.licence),
                parser=(_MODEL_PARSER_VERSION, MINIMUM_PARSER_VERSION),
            ),
            _MODEL["subgraphs"]: vector([subgraph]),
        },
    )
    builder.Finish(root, file_identifier=METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _slot(position):
    """Of a field in a table's list of offsets."""
    return 4 + 2 * position


def _string(table, position):
    offset = table.Offset(_slot(position))
    return table.String(table.Pos + offset).decode() if offset else ""


def _children(table, position):
    offset = table.Offset(_slot(position))
    if not offset:
        return []
    start = table.Vector(offset)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * index))
        for index in range(table.VectorLen(offset))
    ]


def _floats(table, position):
    offset = table.Offset(_slot(position))
    start = table.Vector(offset)
    return tuple(
        table.Get(number_types.Float32Flags, start + 4 * index)
        for index in range(table.VectorLen(offset))
    )
