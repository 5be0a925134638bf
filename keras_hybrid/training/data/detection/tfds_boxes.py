"""Detection sets of TensorFlow Datasets: COCO, Pascal VOC, the scenes of digits, and others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_hybrid.image_files import orientation_of, stored_size
from keras_hybrid.training.data.detection.annotated_images import turned
from keras_hybrid.training.data.detection.coco_masks import turned_masks
from keras_hybrid.training.data.detection.detection_source import DetectionSource
from keras_hybrid.training.data.image_source import EVALUATION_SPLITS
from keras_hybrid.training.data.panoptic import panoptic_masks
from keras_hybrid.training.data.records import Records

_UPRIGHT = 1  # EXIF's orientation of almost all pictures


@dataclass(frozen=True)
class _Layout:
    """Where a set of TFDS has its objects.

    Attributes:
        objects: name of the feature: a sequence with "bbox", "label" and perhaps more.
        masks: what in it is a picture of each object; None where it has none.
        panoptic: name of the picture whose colors spell the objects' "id"; None where it has none.
        things: how many of its classes, the first ones, are objects; None for all.
        note: what a user would not expect of the masks.
    """

    objects: str = "objects"
    masks: str | None = None
    panoptic: str | None = None
    things: int | None = None
    note: str | None = None


# COCO's 80 things come before its 53 kinds of stuff: classes are in the order of their numbers.
_PANOPTIC = _Layout(
    "panoptic_objects",
    panoptic="panoptic_image",
    things=80,
    note="masks of a panoptic set do not overlap: what lies in front takes the pixels, so that "
    "mask AP is not quite that of COCO's own instances",
)
_MASKS = ("mask", "segmentation")  # names that sets have for pictures of their objects


def tfds_source(data: str, data_dir: str | None = None, masks: bool = False) -> DetectionSource:
    """Opens, and where needed prepares, a detection set by its name, read in any order.

    Without another split, a fifth of the training images is for validation. Boxes and masks are of
    the pictures as TFDS shows them, which passes over EXIF's orientation: they are turned along.

    Args:
        data: "digit_scenes", or the name of a TFDS set such as "coco/2017" or "voc/2012". Of
            panoptic sets such as "coco/2017_panoptic" the things are objects, the stuff is not.
        data_dir: TFDS' folder of prepared sets; None for its default.
        masks: whether objects must have masks.

    Raises:
        ValueError: for an unknown set, or one without pictures and boxes with classes, or without
            masks where they are wanted.
    """
    from keras_hybrid.training.data.tfds_builders import find_builder  # slow to import

    builder = find_builder(data, data_dir, "'digit_scenes' or the name of a TFDS set")
    layout = _layout(builder, data, masks)
    builder.download_and_prepare()
    label = builder.info.features[layout.objects].feature["label"]
    names = tuple(label.names or map(str, range(label.num_classes)))
    splits = builder.info.splits
    parts = {split: split for split in splits}
    if not any(split in EVALUATION_SPLITS for split in parts) and "train" in parts:
        parts |= {"train": "train[:80%]", "validation": "train[80%:]"}
    return DetectionSource(
        data,
        names[: layout.things],
        {split: splits[part].num_examples for split, part in parts.items()},
        open_reader=lambda split: _reader(builder, parts[split], layout, masks),
        notes=(layout.note,) if masks and layout.note else (),
        has_masks=masks,
    )


def _layout(builder, data, masks):
    """Where a set has its objects.

    Raises:
        ValueError: as `tfds_source` says.
    """
    features = dict((builder.info.features or {}).items())
    is_panoptic = {_PANOPTIC.objects, _PANOPTIC.panoptic} <= set(features)
    found = _PANOPTIC.objects if is_panoptic else _Layout.objects
    inner = dict(getattr(features.get(found), "feature", {}).items())
    if "image" not in features or "bbox" not in inner or not _is_of_classes(inner.get("label")):
        raise ValueError(
            'A detection set has an "image" and "objects" with "bbox" and "label". '
            f"Received: data={data!r} with {sorted(features)}"
        )
    if is_panoptic:
        return _PANOPTIC
    layout = _Layout(masks=next((name for name in _MASKS if name in inner), None))
    if masks and layout.masks is None:
        raise ValueError(
            'Objects with a "mask" or "segmentation" are expected, as "digit_scenes" has them. '
            "Of TFDS' COCO, coco/2017_panoptic has masks of its things, and coco/2017 boxes alone; "
            "COCO's own files have both: a folder with train2017, val2017 and "
            "annotations/instances_train2017.json and so on, as folder:/path. "
            f"Received: data={data!r}, whose objects have {sorted(inner)}"
        )
    return layout


def _is_of_classes(label):
    """Whether a feature is a class; its names may be unknown until the set is prepared."""
    return bool(getattr(label, "num_classes", None))


def _reader(builder, part, layout, with_masks) -> Callable:
    """A function for `tf.data`: place -> an example as `DetectionSource` says."""
    import tensorflow_datasets as tfds  # slow to import

    instructions = builder.info.splits[part].file_instructions
    records = Records([(entry.filename, entry.skip, entry.take) for entry in instructions])
    inner = builder.info.features[layout.objects].feature
    wanted = ["bbox", "label", "is_crowd", "area"]
    pictures = ["image"]
    if with_masks:
        wanted += ["id"] if layout.panoptic else [layout.masks]
        pictures += [layout.panoptic] if layout.panoptic else []
    features = tfds.features.FeaturesDict(
        {
            **{name: builder.info.features[name] for name in pictures},
            layout.objects: tfds.features.Sequence({x: inner[x] for x in wanted if x in inner}),
        }
    )
    decoders = {"image": tfds.decode.SkipDecoding()}

    def read(place):
        content = tf.numpy_function(records.read, [place], tf.string, stateful=False)
        example = features.deserialize_example(tf.ensure_shape(content, ()), decoders=decoders)
        objects = example[layout.objects]
        labels = tf.cast(objects["label"], tf.int64)
        crowd, areas = objects.get("is_crowd"), objects.get("area")
        found = {
            "boxes": tf.gather(objects["bbox"], [1, 0, 3, 2], axis=1),
            "labels": labels,
            "crowd": tf.zeros_like(labels, tf.bool) if crowd is None else crowd,
            "areas": tf.fill(tf.shape(labels), float("nan"))
            if areas is None
            else tf.cast(areas, tf.float32),
        }
        if with_masks and layout.panoptic:
            found["masks"] = panoptic_masks(example[layout.panoptic], objects["id"])
        elif with_masks:
            masks = tf.cast(objects[layout.masks][..., 0] > 0, tf.uint8)
            found["masks"] = tf.cond(
                tf.size(labels) == 0, lambda: _no_masks(example["image"]), lambda: masks
            )
        if layout.things is not None:
            is_thing = labels < layout.things
            found = {name: tf.boolean_mask(value, is_thing) for name, value in found.items()}
        return {"image": example["image"], **_shown(found, example["image"])}

    return read


def _no_masks(image):
    """Masks (0, H, W) of a picture as it is stored."""
    empty = tf.numpy_function(
        lambda content: np.zeros((0, *stored_size(content)), "uint8"),
        [image],
        tf.uint8,
        stateful=False,
    )
    return tf.ensure_shape(empty, (None, None, None))


def _shown(objects, image):
    """Objects of a picture as it is stored -> as `decode_tensor` shows it."""
    orientation = tf.numpy_function(orientation_of, [image], tf.int64, stateful=False)
    turn = {"boxes": _turned_shares, "masks": turned_masks}

    def turned_along():
        return {
            name: tf.ensure_shape(
                tf.numpy_function(
                    lambda x, turns, name=name: np.ascontiguousarray(turn[name](x, turns)),
                    [value, orientation],
                    value.dtype,
                    stateful=False,
                ),
                (None, 4) if name == "boxes" else (None, None, None),
            )
            if name in turn
            else value
            for name, value in objects.items()
        }

    return tf.cond(orientation == _UPRIGHT, lambda: objects, turned_along)


def _turned_shares(boxes, orientation):
    return turned(boxes, (1, 1), int(orientation)).astype("float32")
