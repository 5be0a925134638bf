"""What a `.tflite` says of itself: TFLite's metadata, which apps read, and our own record.

Label files lie after the model as a zip archive, as TFLite's metadata schema asks for.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass

import numpy as np

from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.flatbuffer.metadata import TensorTable, pack_metadata, unpack_metadata

METADATA_NAME = "TFLITE_METADATA"
RECORD_NAME = "keras_hybrid"
LABEL_FILE = "labels.txt"
# What MediaPipe's ObjectDetector calls the outputs of TensorFlow Lite's operator for detections.
OBJECT_DETECTOR = {
    "boxes": TensorTable("location", "Boxes, y1 x1 y2 x2", box_order=(1, 0, 3, 2)),
    "classes": TensorTable("category", "Number of each box' class", values_are_classes=True),
    "scores": TensorTable("score", "Of each box, the highest first"),
    "count": TensorTable("number of detections"),
}


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
    """How pixels of 0 to 255 become the input: (pixel - mean) / std.

    Attributes:
        mean: for each channel, or one for all.
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def differs_by_channel(self) -> bool:
        """Whether channels differ, which MediaPipe Tasks refuses."""
        return len(set(self.mean)) > 1 or len(set(self.std)) > 1


@dataclass(frozen=True)
class Metadata:
    """What `read_metadata` found.

    Attributes:
        about: name, description, version, author, licence and preset.
        normalization: of the input, as apps read it; None when the file states none. One that
            differs by channel stands in the record alone, and in words in the input's description.
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
    normalization: Normalization | None,
    labels: list[str] | None = None,
    record: dict | None = None,
    segmenter_softmax: bool | None = None,
    labelled: str | None = None,
    has_detections: bool = False,
):
    """Puts metadata into a file, in place of what it had.

    Args:
        file: to be changed.
        about: what the model is.
        normalization: of its image; None where it is not known. TFLite's metadata state only one
            for all channels: MediaPipe Tasks opens no file with another.
        labels: of the classes of an output, in order; None for none.
        record: entries for this package's own record.
        segmenter_softmax: whether MediaPipe's ImageSegmenter is to take the softmax of its output
            for confidence masks; None for what is no mask that it takes.
        labelled: of the output whose classes have the labels, its name in the signature; None for
            the first.
        has_detections: whether the outputs are those of TensorFlow Lite's operator for detections,
            which MediaPipe's ObjectDetector reads.

    Raises:
        ValueError: for labels with a line break in one.
    """
    if labels and any("\n" in label for label in labels):
        raise ValueError("A label must be one line. Received: labels with line breaks")
    graph = file.model.subgraphs[0]
    known = {
        output.tensorIndex: output.name.decode()
        for signature in file.model.signatureDefs or ()
        for output in signature.outputs
    }
    outputs = [
        (graph.tensors[index].name.decode(), known.get(index, "")) for index in graph.outputs
    ]
    record = {**asdict(about), **(record or {})}
    if normalization is not None:
        record["normalization"] = asdict(normalization)
    content = pack_metadata(
        {
            "name": about.name,
            "description": about.description,
            "version": about.version,
            "author": about.author,
            "license": about.licence,
        },
        [_input_table(graph.tensors[index], normalization) for index in graph.inputs],
        [
            dataclasses.replace(
                OBJECT_DETECTOR[name] if has_detections else TensorTable(tensor),
                label_file=LABEL_FILE if labels and name == (labelled or outputs[0][1]) else None,
            )
            for tensor, name in outputs
        ],
        segmenter_softmax,
    )
    file.set_entry(METADATA_NAME, content)
    file.set_entry(RECORD_NAME, json.dumps(record).encode())
    if labels:
        file.attached[LABEL_FILE] = ("\n".join(labels) + "\n").encode()


def _input_table(tensor, normalization):
    name, shape = tensor.name.decode(), tuple(int(size) for size in tensor.shape)
    if len(shape) != 4 or shape[-1] not in (1, 3):
        return TensorTable(name)
    description = "RGB image" if shape[-1] == 3 else "Gray image"
    if normalization is None:
        return TensorTable(name, description, shape[-1])
    if normalization.differs_by_channel:
        mean, std = (
            ", ".join(f"{value:.6g}" for value in values)
            for values in (normalization.mean, normalization.std)
        )
        description += f", (pixel - ({mean})) / ({std}) by channel"
        return TensorTable(name, description, shape[-1])
    return TensorTable(name, description, shape[-1], normalization.mean[:1], normalization.std[:1])


def label_names(labels) -> list[str] | None:
    """Names of classes, from what users keep them in.

    Args:
        labels: a sequence or array of names or numbers; a dictionary of names by class number, or
            of class numbers by name; the path of a text file with a name a line (UTF-8 or UTF-16,
            with or without a byte-order mark); or None.

    Raises:
        ValueError: for a file that is not there or of another encoding, or what is no sequence of
            names: a set has no order.
    """
    if labels is None:
        return None
    if isinstance(labels, str | bytes | os.PathLike):
        return _label_lines(os.fsdecode(labels))
    names = _in_order(labels)
    if names is None or not all(isinstance(x, str | bytes | int | np.integer) for x in names):
        raise ValueError(
            "`labels` must be names or numbers of classes, in order, a dictionary of all classes' "
            f"numbers, or the path of a text file. Received: labels={labels!r}"
        )
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    return [name.removeprefix("\ufeff").rstrip("\r\n") for name in names]


def _label_lines(path):
    """A text file's lines; empty ones at its end do not count."""
    if not os.path.isfile(path):
        raise ValueError(f"`labels` names a file that is not there. Received: labels={path!r}")
    with open(path, "rb") as file:
        content = file.read()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            "`labels` must be a text file in UTF-8: save it anew in this encoding. "
            f"Received: labels={path!r} ({error})"
        ) from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _in_order(labels) -> list | None:
    """The labels as a list; None for what has no order."""
    if isinstance(labels, Mapping):
        names, numbers = list(labels.values()), list(labels)
        if not all(isinstance(x, int) for x in numbers):
            names, numbers = numbers, names
        if not all(isinstance(x, int) for x in numbers):
            return None
        by_number = dict(zip(numbers, names, strict=True))
        wanted = range(len(labels))
        return [by_number[n] for n in wanted] if sorted(by_number) == list(wanted) else None
    if isinstance(labels, Set):
        return None
    if hasattr(labels, "numpy"):  # a tensor
        labels = labels.numpy()
    try:
        return list(labels.tolist() if hasattr(labels, "tolist") else labels)
    except TypeError:
        return None


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
            labels = tuple(file.attached[output.label_file].decode().removesuffix("\n").split("\n"))
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
