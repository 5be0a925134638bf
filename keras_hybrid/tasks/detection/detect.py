"""Objects in images: from pictures of any size to boxes in their pixels."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.layers.resizing import resize_bilinear
from keras_hybrid.tasks.detection.anchors import Anchors, anchors_of
from keras_hybrid.tasks.detection.post_processing import Detections, SelectionRule, select
from keras_hybrid.tasks.detection.systems import (
    DetectionSystem,
    anchor_boxes,
    level_sizes,
    system_of,
)
from keras_hybrid.tasks.pictures import Image, check_batch_size, list_of_images, pixels_of
from keras_hybrid.weights.family import Preprocessing, Preset
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of

SSD_SIZE = (320, 320)  # for a network that takes any size
RETINANET_SIDES = (800, 1333)  # likewise: images fit, the shorter and the longer side
MULTIPLE = 32  # of whose pixels they are padded to
# Boxes end so many images away: an offset's exponential may be infinite.
FAR = 1e4

BATCH_SIZE = 8


@dataclass(frozen=True)
class Placement:
    """Where an image is in a network's input.

    Attributes:
        input_size: height and width of the input, in pixels.
        size: height and width of the image in it, from the upper left corner.
        original: height and width of the image itself.
    """

    input_size: tuple[int, int]
    size: tuple[int, int]
    original: tuple[int, int]


def detect(
    model: keras.Model,
    images: Image | Sequence[Image],
    *,
    score_threshold: float | None = None,
    rule: SelectionRule | None = None,
    preprocessing: str | Preset | Preprocessing | None = None,
    batch_size: int = BATCH_SIZE,
) -> Detections | list[Detections]:
    """Finds objects in images, with the post-processing that the system is published with.

    SSDLite's images are stretched to the input's size; RetinaNet's keep their aspect and are
    padded, one image at a time where the network takes any size.

    Args:
        model: a detector of this package, built or loaded.
        images: one image or a sequence of such, of any sizes: the path of a file, or
            (height, width, 3), RGB of 0 to 255, an array or tensor of any number type.
        score_threshold: in the rule's place; None for the published one, which keeps hundreds of
            doubtful boxes, as average precision asks for.
        rule: how detections are chosen, of `keras_hybrid.tasks.detection.post_processing`; None for
            the published rule.
        preprocessing: what pixels become, anything that `keras_hybrid.preprocess_input` takes for
            a model; None for the model's own.
        batch_size: images at once, where they are of one size in the network.

    Returns: the `Detections` of one image, or a list of them: boxes as corners in the image's own
    pixels, inside the image, the highest score first.

    Raises:
        ValueError: for a model that is no detector, images of other shapes or of values that are
            not pixels', and outputs that are not finite.
        ImageFileError: for a file that is no image; it names the file.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2; RetinaNet
    (https://arxiv.org/abs/1708.02002), Section 4.1, "Inference".
    """
    system = system_of(model)
    check_batch_size(batch_size)
    rule = rule or system.rule
    if score_threshold is not None:
        rule = dataclasses.replace(rule, score_threshold=score_threshold)
    known = preprocessing_of(preprocessing or model)
    given, single = list_of_images(images)
    found: list[Detections] = []
    batch: list[tuple[np.ndarray, Placement]] = []
    for image in map(pixels_of, given):
        placed = place_image(image, system, model.input_shape[1:3], known)
        if batch and (len(batch) == batch_size or placed[0].shape != batch[0][0].shape):
            found += _of_batch(model, batch, rule)
            batch = []
        batch.append(placed)
    found += _of_batch(model, batch, rule)
    return found[0] if single else found


def place_image(
    image: np.ndarray,
    system: DetectionSystem,
    input_size: tuple[int | None, int | None],
    preprocessing: Preprocessing,
) -> tuple[np.ndarray, Placement]:
    """An image as a detector takes it.

    Args:
        image: (H, W, 3), 0 to 255.
        system: of the detector.
        input_size: height and width of its input; None where it takes any.
        preprocessing: what pixels become.

    Returns: float32 (height, width, 3), zeros to the right of the image and below it; its place.
    """
    height, width = image.shape[:2]
    given_height, given_width = input_size
    if not system.keeps_aspect:
        target = size = (given_height or SSD_SIZE[0], given_width or SSD_SIZE[1])
    else:
        if given_height is None or given_width is None:
            shorter, longer = RETINANET_SIDES
            scale = min(longer / max(height, width), shorter / min(height, width))
        else:
            scale = min(given_height / height, given_width / width)
        size = (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
        target = (given_height or _whole(size[0]), given_width or _whole(size[1]))
        size = (min(size[0], target[0]), min(size[1], target[1]))
    pixels = image.astype("float32")[None]
    if (height, width) != size:
        pixels = keras.ops.convert_to_numpy(
            resize_bilinear(keras.ops.convert_to_tensor(pixels), *size)
        )
    pixels = preprocess_input(pixels, preprocessing)[0]
    padding = [(0, total - side) for total, side in zip(target, size, strict=True)]
    return np.pad(pixels, (*padding, (0, 0))), Placement(target, size, (height, width))


def detections_of(
    outputs: dict,
    model: keras.Model,
    placements: Iterable[Placement],
    rule: SelectionRule | None = None,
) -> list[Detections]:
    """The detections that raw outputs mean.

    Args:
        outputs: "boxes" (n, anchors, 4) and "classes" (n, anchors, ...), as the model gives them.
        model: the detector.
        placements: where each image was in the model's input.
        rule: how detections are chosen; None for the system's.

    Returns: for each image its `Detections`, in its own pixels.

    Raises:
        ValueError: for outputs that are not finite, or of another number of anchors.
    """
    return detections_from(outputs, system_of(model), anchors_of(model), placements, rule)


def detections_from(
    outputs: dict,
    system: DetectionSystem,
    anchors: Anchors,
    placements: Iterable[Placement],
    rule: SelectionRule | None = None,
    decoded: bool = False,
) -> list[Detections]:
    """The same without the model, as of the outputs of a file.

    Args:
        outputs: as of `detections_of`; or decoded ones: "boxes", corners as shares of the input's
            sides, and "scores".
        system: of the detector.
        anchors: likewise.
        placements: as of `detections_of`.
        rule: likewise.
        decoded: whether outputs are.
    """
    offsets, logits = (
        keras.ops.convert_to_numpy(outputs[key]).astype("float32")
        for key in ("boxes", "scores" if decoded else "classes")
    )
    placements = list(placements)
    found = []
    for index, place in enumerate(placements):
        height, width = place.input_size
        boxes = anchor_boxes(anchors, height, width)
        if offsets.shape[1:] != boxes.shape or logits.shape[:2] != offsets.shape[:2]:
            raise ValueError(
                f"Outputs for {len(boxes)} anchors are expected, of an image of {height} x {width} "
                f"px. Received: boxes {offsets.shape}, classes {logits.shape}"
            )
        if not (np.isfinite(offsets[index]).all() and np.isfinite(logits[index]).all()):
            raise ValueError(
                "The network's outputs must be finite: have training's weights or the image "
                f"numbers that are not? Received: outputs that are not finite for image {index}"
            )
        if decoded:
            unit = np.ones(4) if system.shares else np.array([width, height, width, height])
            corners, scores = offsets[index] * unit.astype("float32"), logits[index]
        else:
            corners = decode(system, offsets[index], boxes)
            scores = keras.ops.convert_to_numpy(system.scores(logits[index]))
        found.append(
            _in_pixels(corners, scores, system, place, rule, level_sizes(anchors, height, width))
        )
    return found


def decode(system: DetectionSystem, offsets: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Corners (n, 4) of offsets from anchors, in the anchors' unit; finite for finite offsets."""
    with np.errstate(over="ignore"):
        boxes = keras.ops.convert_to_numpy(system.coder.decode(offsets, anchors))
    far = FAR if system.shares else FAR * float(anchors.max(initial=1))
    return np.clip(boxes, -far, far)


def _whole(side):
    """The side filled up to a multiple of what networks want."""
    return -(-side // MULTIPLE) * MULTIPLE


def _of_batch(model, batch, rule):
    outputs = model(np.stack([pixels for pixels, _ in batch]), training=False)
    return detections_of(outputs, model, [place for _, place in batch], rule)


def _in_pixels(boxes, scores, system, place, rule, levels):
    """`Detections` in the original image's pixels, of one image's boxes in the anchors' unit."""
    limits = np.array([*place.size[::-1], *place.size[::-1]], "float32")
    original = np.array([*place.original[::-1], *place.original[::-1]], "float32")
    if system.shares:
        boxes = boxes * limits
    if system.clips_first:
        boxes = np.clip(boxes, 0, limits)
    boxes = boxes * (original / limits)
    chosen = select(boxes, scores, rule or system.rule, levels)
    return dataclasses.replace(chosen, boxes=np.clip(chosen.boxes, 0, original))
