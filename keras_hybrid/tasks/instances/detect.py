"""Objects in images: boxes of any detector, and masks where the network gives them."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_hybrid.tasks.detection import detect as of_boxes
from keras_hybrid.tasks.detection.detect import Placement, place_image
from keras_hybrid.tasks.detection.post_processing import Detections, SelectionRule
from keras_hybrid.tasks.detection.systems import RETINANET
from keras_hybrid.tasks.instances.host_align import align_on_host, is_on_cpu
from keras_hybrid.tasks.instances.instance_detections import InstanceDetections, logits_of_label
from keras_hybrid.tasks.instances.mask_pasting import paste_masks
from keras_hybrid.tasks.instances.parts import MaskRCNNParts, is_mask_rcnn, parts_of
from keras_hybrid.tasks.pictures import Image, check_batch_size, list_of_images, pixels_of
from keras_hybrid.weights.family import Preprocessing, Preset
from keras_hybrid.weights.preprocessing import preprocessing_of

BATCH_SIZE = of_boxes.BATCH_SIZE


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

    SSDLite's images are stretched to the input's size; RetinaNet's and Mask R-CNN's keep their
    aspect and are padded, one image at a time where the network takes any size.

    Args:
        model: a detector or a Mask R-CNN of this package, built or loaded.
        images: one image or a sequence of such, of any sizes: the path of a file, or
            (height, width, 3), RGB of 0 to 255, an array or tensor of any number type.
        score_threshold: in the rule's place; None for the published one, which keeps hundreds of
            doubtful boxes, as average precision asks for.
        rule: how detections are chosen, of `keras_hybrid.tasks.detection.post_processing`; None for
            the published rule. Mask R-CNN's thresholds and numbers are arguments of its layers.
        preprocessing: what pixels become, anything that `keras_hybrid.preprocess_input` takes for
            a model; None for the model's own.
        batch_size: images at once, where they are of one size in the network.

    Returns: the `Detections` of one image, or a list of them: boxes as corners in the image's own
    pixels, inside the image, the highest score first; with masks in the image's pixels where the
    network is a Mask R-CNN.

    Raises:
        ValueError: for a model that is no detector, images of other shapes or of values that are
            not pixels', outputs that are not finite, and a rule for a Mask R-CNN.
        ImageFileError: for a file that is no image; it names the file.

    Reference: SSD (https://arxiv.org/abs/1512.02325), Section 2.2; RetinaNet
    (https://arxiv.org/abs/1708.02002), Section 4.1, "Inference"; Mask R-CNN
    (https://arxiv.org/abs/1703.06870), Section 3.1, "Inference".
    """
    if not is_mask_rcnn(model):
        return of_boxes.detect(
            model,
            images,
            score_threshold=score_threshold,
            rule=rule,
            preprocessing=preprocessing,
            batch_size=batch_size,
        )
    if rule is not None:
        raise ValueError(
            "Mask R-CNN chooses by its own rule: give `score_threshold`, or other numbers to "
            f"`mask_rcnn`. Received: rule={rule}"
        )
    check_batch_size(batch_size)
    parts = parts_of(model)
    final = parts.detections
    if score_threshold is not None:
        final = InstanceDetections(
            **{**final.get_config(), "score_threshold": score_threshold, "dtype": "float32"}
        )
    known = preprocessing_of(preprocessing or model)
    given, single = list_of_images(images)
    found: list[Detections] = []
    batch: list[tuple[np.ndarray, Placement]] = []
    for image in map(pixels_of, given):
        placed = place_image(image, RETINANET, parts.input_size, known)
        if batch and (len(batch) == batch_size or placed[0].shape != batch[0][0].shape):
            found += _of_batch(parts, final, batch)
            batch = []
        batch.append(placed)
    found += _of_batch(parts, final, batch)
    return found[0] if single else found


def find_instances(
    parts: MaskRCNNParts, inputs, sizes, final: InstanceDetections | None = None
) -> dict[str, np.ndarray]:
    """What a Mask R-CNN finds in a batch, with the pictures' own sizes.

    Only as many regions and masks are computed as there are.

    Args:
        parts: of the network.
        inputs: (batch, H, W, 3), as the network takes them.
        sizes: (batch, 2), height and width of the picture in each.
        final: the layer that chooses; None for the network's own.

    Returns: "boxes" (batch, n, 4), "scores" (batch, n), 0 where there is none, "labels" (batch, n),
        -1 there, "masks" (batch, n, 28, 28).

    Raises:
        ValueError: for outputs that are not finite.
    """
    sizes = keras.ops.convert_to_tensor(sizes, "float32")
    found = parts.first(inputs, training=False)
    for kind in ("logits", "offsets"):
        if not all(np.isfinite(keras.ops.convert_to_numpy(x)).all() for x in found[kind]):
            raise ValueError(
                "The network's outputs must be finite: have training's weights or the image "
                f"numbers that are not? Received: {kind} of regions that are not finite"
            )
    regions, region_scores = parts.regions([*found["logits"], *found["offsets"], sizes])
    regions = regions[:, : _most(region_scores >= 0)]
    align = align_on_host if is_on_cpu(found["maps"][0]) else None
    logits, offsets = parts.box_head([*found["maps"], regions], align)
    boxes, scores, labels = (final or parts.detections)([regions, logits, offsets, sizes])
    count = _most(scores > 0)
    boxes, scores, labels = boxes[:, :count], scores[:, :count], labels[:, :count]
    masks = keras.ops.sigmoid(
        logits_of_label(parts.mask_head([*found["maps"], boxes], align), labels)
    )  # (batch, n, 28, 28)
    found = {"boxes": boxes, "scores": scores, "labels": labels, "masks": masks}
    return {kind: keras.ops.convert_to_numpy(x) for kind, x in found.items()}


def in_pixels(found: dict[str, np.ndarray], index: int, place: Placement) -> Detections:
    """One image's `Detections` in its own pixels.

    Args:
        found: of a batch, as of `find_instances`.
        index: of the image.
        place: where it was in the input.
    """
    there = found["scores"][index] > 0
    height, width = place.original
    scale = np.array([width / place.size[1], height / place.size[0]] * 2, "float32")
    limits = np.array([width, height] * 2, "float32")
    boxes = np.clip(found["boxes"][index][there] * scale, 0, limits).astype("float32")
    return Detections(
        boxes,
        found["scores"][index][there],
        found["labels"][index][there].astype("int64"),
        paste_masks(found["masks"][index][there], boxes, height, width),
    )


def _of_batch(parts, final, batch):
    inputs = np.stack([pixels for pixels, _ in batch])
    sizes = np.array([place.size for _, place in batch], "float32")
    found = find_instances(parts, inputs, sizes, final)
    return [in_pixels(found, index, place) for index, (_, place) in enumerate(batch)]


def _most(there):
    """Of lists (batch, n) whose first places are taken: the longest one's length, 1 at least."""
    return max(1, int(keras.ops.convert_to_numpy(there).sum(axis=1).max()))
