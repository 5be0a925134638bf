"""TFLite's metadata as a flatbuffer: written and read.

The schema is TensorFlow Lite's metadata_schema.fbs; the numbers below are its fields' positions.
"""

from dataclasses import dataclass

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

IDENTIFIER = b"M001"
MINIMUM_PARSER_VERSION = "1.0.0"

# Positions of fields in the schema's tables.
_MODEL = {"name": 0, "description": 1, "version": 2, "author": 4, "license": 5}
_MODEL_SUBGRAPHS, _MODEL_PARSER_VERSION = 3, 7
_SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS, _SUBGRAPH_CUSTOM = 2, 3, 9
_TENSOR_NAME, _TENSOR_DESCRIPTION, _TENSOR_CONTENT = 0, 1, 3
_TENSOR_PROCESS_UNITS, _TENSOR_STATS, _TENSOR_FILES = 4, 5, 6
_NORMALIZATION_OPTIONS = 1  # in the union of processing units
# In the union of contents.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _BOX_PROPERTIES = 1, 2, 3
_BOUNDARIES, _RATIO = 1, 0  # of boxes: their type, and that they are shares of the sides
# Kinds of an associated file: names of an axis, or of what a tensor's values stand for.
_TENSOR_AXIS_LABELS, _TENSOR_VALUE_LABELS = 2, 3
_RGB, _GRAYSCALE = 1, 2
# MediaPipe's own table of an ImageSegmenter, image_segmenter_metadata_schema.fbs.
SEGMENTER = "SEGMENTER_METADATA"
_SEGMENTER_IDENTIFIER = b"V001"
_NO_ACTIVATION, _SOFTMAX = 0, 2


@dataclass(frozen=True)
class TensorTable:
    """What the metadata say of one input or output.

    Attributes:
        name: of the tensor.
        description: for a reader.
        image_channels: of an image input, 3 for RGB or 1 for gray; None for what is no image.
        mean: of each channel, or one for all; None where no normalization is stated.
        std: likewise.
        label_file: name of the attached file with the names of its classes, or None.
        values_are_classes: whether the tensor's values are numbers of classes, and not its last
            axis the classes.
        box_order: of boxes, as shares of the image's sides: where in the last axis left, top, right
            and bottom are; None for what is no box.
    """

    name: str
    description: str = ""
    image_channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    label_file: str | None = None
    values_are_classes: bool = False
    box_order: tuple[int, int, int, int] | None = None


def pack_metadata(
    texts: dict[str, str],
    inputs: list[TensorTable],
    outputs: list[TensorTable],
    segmenter_softmax: bool | None = None,
) -> bytes:
    """The metadata as a flatbuffer.

    Args:
        texts: of the model: "name", "description", "version", "author" and "license".
        inputs: of the model, in the order of the file.
        outputs: likewise.
        segmenter_softmax: whether an ImageSegmenter is to take the softmax of the output for its
            confidence masks; None for what is no mask.
    """
    builder = flatbuffers.Builder(1024)
    sides = [[_tensor(builder, x) for x in side] for side in (inputs, outputs)]
    tables = {
        _SUBGRAPH_INPUTS: _vector(builder, sides[0]),
        _SUBGRAPH_OUTPUTS: _vector(builder, sides[1]),
    }
    if segmenter_softmax is not None:
        content = builder.CreateByteVector(_segmenter(segmenter_softmax))
        entry = _table(builder, 2, {0: builder.CreateString(SEGMENTER), 1: content})
        tables[_SUBGRAPH_CUSTOM] = _vector(builder, [entry])
    subgraph = _table(builder, 10, tables)
    fields = {_MODEL[key]: builder.CreateString(text) for key, text in texts.items()}
    fields[_MODEL_PARSER_VERSION] = builder.CreateString(MINIMUM_PARSER_VERSION)
    fields[_MODEL_SUBGRAPHS] = _vector(builder, [subgraph])
    builder.Finish(_table(builder, 8, fields), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def unpack_metadata(
    content: bytes,
) -> tuple[dict[str, str], list[TensorTable], list[TensorTable]]:
    """What `pack_metadata` was given.

    Raises:
        ValueError: for something else than TFLite's metadata.
    """
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"TFLite's metadata are expected. Received: {content[:8]!r}...")
    root = Table(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))
    subgraph = _children(root, _MODEL_SUBGRAPHS)[0]
    inputs, outputs = (
        [_read_tensor(tensor) for tensor in _children(subgraph, side)]
        for side in (_SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS)
    )
    return {key: _string(root, position) for key, position in _MODEL.items()}, inputs, outputs


def _segmenter(softmax):
    """The options of an ImageSegmenter, a flatbuffer of its own."""
    builder = flatbuffers.Builder(64)
    version = builder.CreateString(MINIMUM_PARSER_VERSION)
    options = _table(builder, 2, {1: version}, [(0, _SOFTMAX if softmax else _NO_ACTIVATION)])
    builder.Finish(options, file_identifier=_SEGMENTER_IDENTIFIER)
    return bytes(builder.Output())


def _tensor(builder, tensor):
    unit = None
    if tensor.mean is not None:
        options = _table(
            builder, 2, {0: _floats(builder, tensor.mean), 1: _floats(builder, tensor.std)}
        )
        unit = _table(builder, 2, {1: options}, [(0, _NORMALIZATION_OPTIONS)])
    fields = {_TENSOR_NAME: builder.CreateString(tensor.name)}
    if tensor.description:
        fields[_TENSOR_DESCRIPTION] = builder.CreateString(tensor.description)
    if tensor.image_channels in (1, 3):
        color = _RGB if tensor.image_channels == 3 else _GRAYSCALE
        properties = _table(builder, 2, {}, [(0, color)])
        content = _table(builder, 3, {1: properties}, [(0, _IMAGE_PROPERTIES)])
    elif tensor.box_order is not None:
        order = _unsigned(builder, tensor.box_order)
        properties = _table(builder, 3, {0: order}, [(1, _BOUNDARIES), (2, _RATIO)])
        content = _table(builder, 3, {1: properties}, [(0, _BOX_PROPERTIES)])
    else:
        properties = _table(builder, 0, {})
        content = _table(builder, 3, {1: properties}, [(0, _FEATURE_PROPERTIES)])
    fields[_TENSOR_CONTENT] = content
    if unit is not None:
        fields[_TENSOR_PROCESS_UNITS] = _vector(builder, [unit])
        pairs = list(zip(tensor.mean, tensor.std, strict=True))
        highest, lowest = [(255 - m) / s for m, s in pairs], [-m / s for m, s in pairs]
        fields[_TENSOR_STATS] = _table(
            builder, 2, {0: _floats(builder, highest), 1: _floats(builder, lowest)}
        )
    if tensor.label_file is not None:
        texts = {0: tensor.label_file, 1: "Names of the classes"}
        strings = {position: builder.CreateString(text) for position, text in texts.items()}
        kind = _TENSOR_VALUE_LABELS if tensor.values_are_classes else _TENSOR_AXIS_LABELS
        file = _table(builder, 5, strings, [(2, kind)])
        fields[_TENSOR_FILES] = _vector(builder, [file])
    return _table(builder, 7, fields)


def _table(builder, num_fields, offsets, numbers=()):
    builder.StartObject(num_fields)
    for position, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(position, offset, 0)
    for position, number in numbers:
        builder.PrependUint8Slot(position, number, 0)
    return builder.EndObject()


def _vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder, values):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def _unsigned(builder, values):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependUint32(value)
    return builder.EndVector()


def _read_tensor(table):
    channels, mean, std = None, None, None
    content = _child(table, _TENSOR_CONTENT)
    if content is not None and _number(content, 0) == _IMAGE_PROPERTIES:
        channels = 3 if _number(_child(content, 1), 0) == _RGB else 1
    for unit in _children(table, _TENSOR_PROCESS_UNITS):
        if _number(unit, 0) == _NORMALIZATION_OPTIONS:
            options = _child(unit, 1)
            mean, std = _read_floats(options, 0), _read_floats(options, 1)
    files = [_string(file, 0) for file in _children(table, _TENSOR_FILES)]
    texts = (_string(table, position) for position in (_TENSOR_NAME, _TENSOR_DESCRIPTION))
    return TensorTable(*texts, channels, mean, std, files[0] if files else None)


def _slot(position):
    """Of a field in a table's list of offsets."""
    return 4 + 2 * position


def _number(table, position):
    offset = table.Offset(_slot(position))
    return table.Get(number_types.Uint8Flags, table.Pos + offset) if offset else 0


def _string(table, position):
    offset = table.Offset(_slot(position))
    return table.String(table.Pos + offset).decode() if offset else ""


def _child(table, position):
    offset = table.Offset(_slot(position))
    return Table(table.Bytes, table.Indirect(table.Pos + offset)) if offset else None


def _children(table, position):
    offset = table.Offset(_slot(position))
    if not offset:
        return []
    start = table.Vector(offset)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * index))
        for index in range(table.VectorLen(offset))
    ]


def _read_floats(table, position):
    offset = table.Offset(_slot(position))
    start = table.Vector(offset)
    return tuple(
        table.Get(number_types.Float32Flags, start + 4 * index)
        for index in range(table.VectorLen(offset))
    )
