"""What a `.tflite` says of itself: TFLite's metadata, which apps read, and our own record.

Label files lie after the model as a zip archive, as TFLite's metadata schema asks for.
"""

import json
import os
from dataclasses import asdict, dataclass

from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.flatbuffer.metadata import TensorTable, pack_metadata, unpack_metadata

METADATA_NAME = "TFLITE_METADATA"
RECORD_NAME = "keras_hybrid"
LABEL_FILE = "labels.txt"


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
    file: TFLiteFile,
    about: About,
    normalization: Normalization,
    labels: list[str] | None = None,
    record: dict | None = None,
):
    """Puts metadata into a file, in place of what it had.

    Args:
        file: to be changed.
        about: what the model is.
        normalization: of its input.
        labels: of the classes of its first output, in order; None for none.
        record: entries for this package's own record.

    Raises:
        ValueError: for labels with a line break in one.
    """
    if labels and any("\n" in label for label in labels):
        raise ValueError("A label must be one line. Received: labels with line breaks")
    graph = file.model.subgraphs[0]
    inputs, outputs = (
        [graph.tensors[index].name.decode() for index in indices]
        for indices in (graph.inputs, graph.outputs)
    )
    content = pack_metadata(
        {
            "name": about.name,
            "description": about.description,
            "version": about.version,
            "author": about.author,
            "license": about.licence,
        },
        [TensorTable(inputs[0], "RGB image", 3, normalization.mean, normalization.std)],
        [
            TensorTable(name, label_file=LABEL_FILE if labels and index == 0 else None)
            for index, name in enumerate(outputs)
        ],
    )
    file.set_entry(METADATA_NAME, content)
    file.set_entry(RECORD_NAME, json.dumps({**asdict(about), **(record or {})}).encode())
    if labels:
        file.attached[LABEL_FILE] = ("\n".join(labels) + "\n").encode()


def read_metadata(path: str | os.PathLike) -> Metadata:
    """Reads the metadata of a `.tflite`.

    Raises:
        ValueError: for a file that is no `.tflite`, or has no metadata.
    """
    file = TFLiteFile.read(path)
    content = file.entry(METADATA_NAME)
    if content is None:
        raise ValueError(f"The file has no metadata. Received: path={str(path)!r}")
    texts, inputs, outputs = unpack_metadata(content)
    normalization = None
    if inputs[0].mean is not None:
        normalization = Normalization(inputs[0].mean, inputs[0].std)
    labels = ()
    for output in outputs:
        if output.label_file is not None:
            labels = tuple(file.attached[output.label_file].decode().splitlines())
    record = _record(file)
    about = About(
        **{name: texts[name] for name in ("name", "description", "version", "author")},
        licence=texts["license"],
        preset=record.get("preset", ""),
    )
    return Metadata(about, normalization, labels, record)


def read_record(path: str | os.PathLike) -> dict:
    """This package's own record in a `.tflite`, empty for a file that it did not make."""
    return _record(TFLiteFile.read(path))


def _record(file):
    return json.loads(file.entry(RECORD_NAME) or b"{}")
