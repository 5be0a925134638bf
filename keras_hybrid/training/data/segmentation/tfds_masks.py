"""Segmentation sets of TensorFlow Datasets, read in any order."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL
from keras_hybrid.training.data.image_source import EVALUATION_SPLITS
from keras_hybrid.training.data.records import Records
from keras_hybrid.training.data.segmentation.mask_files import mask_decoder
from keras_hybrid.training.data.segmentation.segmentation_source import SegmentationSource
from keras_hybrid.training.data.tfds_builders import find_builder

NO_MASKS = {
    "voc": "TFDS' `voc` holds boxes without masks: unpack VOC's development kit and give its "
    "folder, folder:/path/VOCdevkit/VOC2012",
    "coco": "Of TFDS' `coco`, `coco/2017_panoptic` holds a class for each pixel",
}


@dataclass(frozen=True)
class _MaskedSet:
    """Where a set of TFDS has its masks.

    Attributes:
        image: name of the feature.
        mask: likewise.
        offset: the first class's value in the masks.
        names: of the classes; or a function from the set's features to them.
        channel: of the mask that is the class, where it has several.
        objects: name of the feature that says what the colors of a panoptic mask are.
        note: what a user would not expect of it.
    """

    image: str
    mask: str
    names: tuple[str, ...] | Callable
    offset: int = 0
    channel: int | None = None
    objects: str | None = None
    note: str | None = None


SETS = {
    "digit_scenes": _MaskedSet(
        "image",
        "segmentation_mask",
        lambda features: ("background", *features["objects"]["label"].names),
    ),
    "scene_parse150": _MaskedSet(
        "image",
        "annotation",
        tuple(f"thing {number}" for number in range(1, 101)),
        offset=1,
        channel=0,
        note="TFDS' `scene_parse150` holds the 100 things of the instance challenge, not the 150 "
        "classes of scene parsing: for these unpack ADEChallengeData2016 and give its folder",
    ),
    "oxford_iiit_pet": _MaskedSet(
        "image", "segmentation_mask", ("pet", "background", "border"), offset=1
    ),
    "coco/2017_panoptic": _MaskedSet(
        "image",
        "panoptic_image",
        lambda features: features["panoptic_objects"]["label"].names,
        objects="panoptic_objects",
    ),
}


def open_tfds_masks(data: str, data_dir: str | None = None) -> SegmentationSource:
    """Opens, and where needed prepares, a set by its name.

    Args and errors are those of `open_segmentation_source`.
    """
    plain = data.split(":")[0]
    known = SETS.get(plain)
    if known is None:
        cure = NO_MASKS.get(plain.split("/")[0], f"known are {', '.join(SETS)}")
        raise ValueError(
            "`data` must be 'folder:' and a path of pictures and masks, or a TFDS set with a class "
            f"for each pixel. {cure}. Received: data={data!r}"
        )
    builder = find_builder(data, data_dir, f"one of {tuple(SETS)}")
    builder.download_and_prepare()
    return masked_source(builder, known, data)


def masked_source(builder: tfds.core.DatasetBuilder, known: _MaskedSet, name: str):
    """The source of a prepared set."""
    features = builder.info.features
    names = known.names(features) if callable(known.names) else known.names
    parts = {split: split for split in builder.info.splits}
    if not any(split in EVALUATION_SPLITS for split in parts) and "train" in parts:
        parts |= {"train": "train[:80%]", "validation": "train[80%:]"}
    size = features[known.image].shape[:2]
    return SegmentationSource(
        name,
        tuple(names),
        {split: builder.info.splits[part].num_examples for split, part in parts.items()},
        open_reader=lambda split: _reader(builder, parts[split], known),
        notes=(known.note,) if known.note else (),
        decode_mask=_decoder(known, len(names)),
        image_size=None if None in size else tuple(size),
    )


def _reader(builder, part, known):
    instructions = builder.info.splits[part].file_instructions
    records = Records([(entry.filename, entry.skip, entry.take) for entry in instructions])
    wanted = [known.image, known.mask, *([known.objects] if known.objects else [])]
    features = tfds.features.FeaturesDict({key: builder.info.features[key] for key in wanted})
    decoders = {key: tfds.decode.SkipDecoding() for key in (known.image, known.mask)}

    def read(place):
        content = tf.numpy_function(records.read, [place], tf.string, stateful=False)
        example = features.deserialize_example(tf.ensure_shape(content, ()), decoders=decoders)
        found = {"image": example[known.image], "mask": example[known.mask]}
        if known.objects:
            objects = example[known.objects]
            found |= {"segments": objects["id"], "labels": objects["label"]}
        return found

    return read


def _decoder(known, num_classes):
    if known.objects:
        return lambda example: panoptic_classes(
            tf.io.decode_png(example["mask"], channels=3), example["segments"], example["labels"]
        )
    if known.channel is not None:

        def decode_channel(example):
            values = tf.io.decode_png(example["mask"], channels=3)[..., known.channel]
            values = tf.cast(values, tf.int32)
            return tf.where(values < known.offset, IGNORED_LABEL, values - known.offset)

        return decode_channel
    decode = mask_decoder(num_classes, offset=known.offset)
    return lambda example: decode(example["mask"], tf.constant(1, tf.int64))


def panoptic_classes(colors, segments, labels):
    """The class of each pixel of a panoptic image, of things and stuff alike.

    Args:
        colors: uint8 (H, W, 3), which spell the number of a segment.
        segments: the numbers, (n,).
        labels: a class for each, (n,).

    Returns: int32 (H, W), 255 where there is no segment.

    Reference: Panoptic Segmentation (https://arxiv.org/abs/1801.00868); COCO's format.
    """
    weights = tf.constant([1, 1 << 8, 1 << 16], tf.int64)
    keys = tf.reduce_sum(tf.cast(colors, tf.int64) * weights, -1)
    # A segment that no pixel can be of, so that there is one to look at.
    segments = tf.concat([tf.cast(segments, tf.int64), [1 << 24]], 0)
    labels = tf.concat([tf.cast(labels, tf.int32), [IGNORED_LABEL]], 0)
    order = tf.argsort(segments)
    segments, labels = tf.gather(segments, order), tf.gather(labels, order)
    places = tf.searchsorted(segments, tf.reshape(keys, [-1]))
    found = tf.gather(segments, places) == tf.reshape(keys, [-1])
    classes = tf.where(found, tf.gather(labels, places), IGNORED_LABEL)
    return tf.reshape(classes, tf.shape(keys))
