"""Segmentation sets of TensorFlow Datasets, read in any order."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_hybrid.image_files import ON_ITS_SIDE, orientation_of, shown_size
from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL
from keras_hybrid.training.data.image_source import EVALUATION_SPLITS
from keras_hybrid.training.data.panoptic import panoptic_classes
from keras_hybrid.training.data.records import Records
from keras_hybrid.training.data.segmentation.mask_files import mask_decoder, turned
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
    """A function for `tf.data`: an example -> the class of each pixel as the picture is shown."""
    decode_stored = _stored_decoder(known, num_classes)

    def decode(example):
        classes = tf.numpy_function(
            _shown, [decode_stored(example), example["image"]], tf.int32, stateful=False
        )
        return tf.ensure_shape(classes, (None, None))

    return decode


def _shown(classes, content):
    """Classes of pixels as TFDS shows the picture -> as EXIF says that it is shown."""
    orientation = int(orientation_of(content))
    is_shown = classes.shape == shown_size(content)
    if orientation in ON_ITS_SIDE and is_shown and classes.shape[0] != classes.shape[1]:
        return classes  # drawn on the picture as it is shown
    return np.ascontiguousarray(turned(classes, orientation))


def _stored_decoder(known, num_classes):
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
