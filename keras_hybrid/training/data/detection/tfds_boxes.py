"""Detection sets of TensorFlow Datasets: COCO, Pascal VOC, the scenes of digits, and others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.training.data.detection.detection_source import DetectionSource
from keras_hybrid.training.data.image_source import EVALUATION_SPLITS
from keras_hybrid.training.data.records import Records


@dataclass(frozen=True, eq=False)
class TFDSBoxes:
    """A prepared set of pictures with boxes.

    Attributes:
        class_names: in the order of their labels.
        sizes: number of pictures by split.
        builder: TFDS' own.
    """

    class_names: tuple[str, ...]
    sizes: dict[str, int]
    builder: Any

    def examples(self, split: str) -> Iterator[tuple[np.ndarray, Objects]]:
        """The pictures of a split, uint8 (H, W, 3), each with its objects.

        Raises:
            ValueError: for a split that the set does not have.
        """
        if split not in self.sizes:
            raise ValueError(
                f"The set has the splits {tuple(self.sizes)}. Received: split={split!r}"
            )
        for example in self.builder.as_dataset(split=split).as_numpy_iterator():
            height, width = example["image"].shape[:2]
            yield example["image"], objects_of_tfds(example["objects"], height, width)


def objects_of_tfds(objects: dict, height: int, width: int) -> Objects:
    """The objects of an example of TFDS, in pixels of its picture.

    Args:
        objects: "bbox" (n, 4), shares of the sides, y before x; "label" (n,); and where the set
            has them "is_crowd" (n,) and "area" (n,).
        height: of the picture, in pixels.
        width: likewise.
    """
    y1, x1, y2, x2 = np.asarray(objects["bbox"], "float32").reshape(-1, 4).T
    boxes = np.stack([x1 * width, y1 * height, x2 * width, y2 * height], axis=1)
    return Objects(boxes, objects["label"], objects.get("is_crowd"), objects.get("area"))


def open_tfds_boxes(data: str, data_dir: str | None = None, masks: bool = False) -> TFDSBoxes:
    """Opens, and where needed prepares, a detection set by its name.

    Args:
        data: "digit_scenes", or the name of a TFDS set such as "coco/2017" or "voc/2012".
        data_dir: TFDS' folder of prepared sets; None for its default.
        masks: whether objects must have masks.

    Raises:
        ValueError: for an unknown set, or one without pictures and boxes with classes, or without
            masks where they are wanted.
    """
    from keras_hybrid.training.data.tfds_builders import find_builder  # slow to import

    builder = find_builder(data, data_dir, "'digit_scenes' or the name of a TFDS set")
    features = dict((builder.info.features or {}).items())
    inner = dict(getattr(features.get("objects"), "feature", {}).items())
    label = inner.get("label")
    if "image" not in features or "bbox" not in inner or not getattr(label, "names", None):
        raise ValueError(
            'A detection set has an "image" and "objects" with "bbox" and "label". '
            f"Received: data={data!r} with {sorted(features)}"
        )
    if masks and "mask" not in inner:
        raise ValueError(
            'Objects with a "mask" are expected, as "digit_scenes" has them. TFDS has boxes alone '
            "of COCO: masks come with COCO's own files, a folder with train2017, val2017 and "
            "annotations/instances_train2017.json and so on, as folder:/path. "
            f"Received: data={data!r}, whose objects have {sorted(inner)}"
        )
    builder.download_and_prepare()
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    return TFDSBoxes(tuple(label.names), sizes, builder)


def tfds_source(data: str, data_dir: str | None = None, masks: bool = False) -> DetectionSource:
    """A set by its name, read in any order; without another split, a fifth is for validation.

    Args and errors are those of `open_tfds_boxes`.
    """
    found = open_tfds_boxes(data, data_dir, masks)
    parts = {split: split for split in found.sizes}
    if not any(split in EVALUATION_SPLITS for split in parts) and "train" in parts:
        parts |= {"train": "train[:80%]", "validation": "train[80%:]"}
    splits = found.builder.info.splits
    return DetectionSource(
        data,
        found.class_names,
        {split: splits[part].num_examples for split, part in parts.items()},
        open_reader=lambda split: _reader(found.builder, parts[split], masks),
        has_masks=masks,
    )


def _reader(builder, part, masks):
    """A function for `tf.data`: place -> an example as `DetectionSource` says."""
    import tensorflow_datasets as tfds  # slow to import

    instructions = builder.info.splits[part].file_instructions
    records = Records([(entry.filename, entry.skip, entry.take) for entry in instructions])
    inner = builder.info.features["objects"].feature
    keys = ("bbox", "label", "is_crowd", "area", *(["mask"] if masks else []))
    wanted = [key for key in keys if key in inner]
    features = tfds.features.FeaturesDict(
        {
            "image": builder.info.features["image"],
            "objects": tfds.features.Sequence({key: inner[key] for key in wanted}),
        }
    )
    decoders = {"image": tfds.decode.SkipDecoding()}

    def read(place):
        content = tf.numpy_function(records.read, [place], tf.string, stateful=False)
        example = features.deserialize_example(tf.ensure_shape(content, ()), decoders=decoders)
        objects = example["objects"]
        labels = tf.cast(objects["label"], tf.int64)
        crowd, areas = objects.get("is_crowd"), objects.get("area")
        more = {"masks": tf.cast(objects["mask"][..., 0] > 0, tf.uint8)} if masks else {}
        return {
            **more,
            "image": example["image"],
            "boxes": tf.gather(objects["bbox"], [1, 0, 3, 2], axis=1),
            "labels": labels,
            "crowd": tf.zeros_like(labels, tf.bool) if crowd is None else crowd,
            "areas": tf.fill(tf.shape(labels), float("nan"))
            if areas is None
            else tf.cast(areas, tf.float32),
        }

    return read
