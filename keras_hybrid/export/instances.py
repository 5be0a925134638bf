"""Mask R-CNN as files for phones: three, with a host loop between them.

What lies between the parts of a Mask R-CNN is sorting and suppression of as many boxes as there
are. Inside of a file that would need loops or operators that only the CPU has; in the app it is a
page of code (`keras_hybrid.tasks.instances.host_loop`), and the three files are plain operators of
static shapes.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import keras

from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.metadata import label_names
from keras_hybrid.files import whole_file
from keras_hybrid.tasks.instances import instance_detections, region_proposals
from keras_hybrid.tasks.instances.host_loop import (
    BOX_HEAD,
    FILES,
    FIRST,
    LABELS,
    MASK_HEAD,
    RULES,
    HostRules,
)
from keras_hybrid.tasks.instances.parts import AnyCount, MaskRCNNParts, parts_of
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocessing_of

HEAD_PRECISIONS = ("float32", "float16", "dynamic")


def export_instances(
    model: keras.Model,
    folder: str | os.PathLike,
    precision: str = "float32",
    preprocessing: bool | Preprocessing = False,
    *,
    head_precision: str = "float32",
    input: str = "float32",
    representative_data: Any = None,
    labels: Any = None,
) -> list[Path]:
    """Converts a Mask R-CNN to three files and the numbers of the host loop between them.

    `first.tflite`: backbone, pyramid and region proposal network, "image" -> "map0" (the finest) to
    "map3", "logits0" to "logits4", "offsets0" to "offsets4". `box_head.tflite`: the maps and
    "regions" (1, max_proposals, 4), corners in pixels -> "logits", "offsets". `mask_head.tflite`:
    the maps and "boxes" (1, max_detections, 4) -> "logits" (max_detections, 28, 28, classes).
    `rules.json`: what `keras_hybrid.tasks.instances.host_loop.InstanceFiles` runs them with.

    Args:
        model: of `keras_hybrid.mask_rcnn`, with images of a known size; `max_proposals` and
            `max_detections`, which it was built with, are the sizes of the heads' files.
        folder: to write to; it is made where it does not exist.
        precision: of the first file, as of `export_tflite`.
        preprocessing: whether it takes RGB pixels of 0 to 255, likewise.
        head_precision: of the other two: "float32", "float16" or "dynamic".
        input: type of the image, as of `export_tflite`.
        representative_data: images to calibrate the first file with, likewise.
        labels: names of the classes, in order, for `labels.txt` beside the files: a sequence, or
            the path of a text file with a name a line.

    Returns: the paths of the files, the rules, and the labels where they are given.

    Raises:
        ValueError: for a model that is no Mask R-CNN or takes images of any size, an unknown
            precision, another number of labels than classes, and as of `export_tflite`.
    """
    if head_precision not in HEAD_PRECISIONS:
        raise ValueError(
            f"`head_precision` must be one of {HEAD_PRECISIONS}. "
            f"Received: head_precision={head_precision!r}"
        )
    parts = parts_of(model)
    if None in parts.input_size:
        raise ValueError(
            "A file takes images of one size: build the network with an `input_shape`, and load "
            f"the weights into it. Received: {model.name} with images of {model.input_shape}"
        )
    names = label_names(labels)
    if names is not None and len(names) != parts.classes:
        raise ValueError(
            "One label a class is expected. "
            f"Received: {len(names)} labels for {parts.classes} classes"
        )
    folder = Path(os.fsdecode(folder))
    folder.mkdir(parents=True, exist_ok=True)
    export_tflite(
        _first(parts),
        folder / FIRST,
        precision,
        preprocessing,
        input=input,
        representative_data=representative_data,
    )
    for head, kind, name in (
        (parts.box_head, "regions", BOX_HEAD),
        (parts.mask_head, "boxes", MASK_HEAD),
    ):
        export_tflite(_head(head, kind), folder / name, head_precision)
    padding = (0.0, 0.0, 0.0)
    if preprocessing:
        known = preprocessing_of(model) if preprocessing is True else preprocessing
        red, green, blue = (255 * float(x) for x in known.mean)
        padding = red, green, blue
    rules = dataclasses.asdict(host_rules(parts, padding))
    with whole_file(folder / RULES) as temporary:
        temporary.write_text(json.dumps(rules, indent=2) + "\n")
    made = [folder / name for name in (*FILES, RULES)]
    if names is not None:
        with whole_file(folder / LABELS) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        made.append(folder / LABELS)
    return made


def host_rules(
    parts: MaskRCNNParts, padding: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> HostRules:
    """The numbers of the host loop of a network whose images have a known size.

    Args:
        parts: of the network.
        padding: the color beside a picture, as the first file takes it.

    Raises:
        ValueError: for images of any size.
    """
    height, width = parts.input_size
    if height is None or width is None:
        raise ValueError(f"A known size is expected. Received: input_size={parts.input_size}")
    regions, detections = parts.regions, parts.detections
    coder = instance_detections.CODER
    return HostRules(
        height=height,
        width=width,
        max_proposals=regions.limit,
        max_detections=detections.limit,
        region_candidates=regions.candidates,
        region_overlap=regions.overlap_threshold,
        score_threshold=detections.score_threshold,
        overlap_threshold=detections.overlap_threshold,
        strides=region_proposals.STRIDES,
        base_size=region_proposals.BASE_SIZE,
        aspect_ratios=region_proposals.ASPECT_RATIOS,
        center_scale=coder.center_scale,
        size_scale=coder.size_scale,
        size_limit=instance_detections.SIZE_LIMIT,
        classes=parts.classes,
        padding=padding,
    )


def _first(parts):
    """The first part with its outputs by name."""
    outputs = parts.first.output
    names = {"maps": "map", "logits": "logits", "offsets": "offsets"}
    flat = {f"{name}{i}": x for key, name in names.items() for i, x in enumerate(outputs[key])}
    return keras.Model(parts.first.inputs[0], flat, name="mask_rcnn_first")


def _head(head, kind):
    """A head as a model of its own, its inputs and outputs by name."""
    copy = keras.models.clone_model(head.model)
    copy.set_weights(head.model.get_weights())
    *maps, boxes = head.model.inputs
    inputs = [keras.Input(x.shape[1:], name=f"map{i}") for i, x in enumerate(maps)]
    inputs.append(keras.Input(boxes.shape[1:], name=kind))
    found = AnyCount(copy)(inputs)
    named = (
        dict(zip(("logits", "offsets"), found, strict=True))
        if kind == "regions"
        else {"logits": found}
    )
    return keras.Model(inputs, named, name=head.model.name)
