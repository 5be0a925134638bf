"""Where images with boxes come from: a folder in one of three formats, or a set of TFDS."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_hybrid.training.data.detection.annotated_images import AnnotatedImage
from keras_hybrid.training.data.detection.coco_masks import decoded_masks
from keras_hybrid.training.data.detection.detection_source import DetectionSource
from keras_hybrid.training.data.detection.folder import read_detection_folder
from keras_hybrid.training.data.file_list import FileList

FOLDER_PREFIX = "folder:"


def open_detection_source(
    data: str, data_dir: str | None = None, masks: bool = False
) -> DetectionSource:
    """Opens, and where needed prepares, a data set for detection.

    Args:
        data: a folder that `read_detection_folder` takes, its path alone or after "folder:";
            "digit_scenes"; or a TFDS set with boxes, such as "coco/2017" or "voc/2012".
        data_dir: TFDS' folder of prepared sets; None for TFDS' default.
        masks: whether objects' masks are wanted, which "digit_scenes" and "coco/2017_panoptic"
            have, and a folder in COCO's JSON; TFDS' "coco/2017" has none.

    Raises:
        ValueError: for an unknown set, or one without boxes, or without masks where they are
            wanted.
    """
    data = os.fspath(data)
    if data.startswith(FOLDER_PREFIX) or (os.sep in data and Path(data).expanduser().is_dir()):
        return _of_folder(data.removeprefix(FOLDER_PREFIX), masks)
    from keras_hybrid.training.data.detection.tfds_boxes import tfds_source  # slow to import

    return tfds_source(data, data_dir, masks)


def _of_folder(path, masks):
    root = Path(path).expanduser().resolve()
    found = read_detection_folder(root, masks)
    return DetectionSource(
        f"{FOLDER_PREFIX}{root}",
        found.class_names,
        {split: len(images) for split, images in found.splits.items()},
        open_reader=lambda split: _reader(root, found.splits[split]),
        notes=found.notes,
        count_objects=lambda split: np.array(
            [np.count_nonzero(~image.objects.crowd) for image in found.splits[split]], "int64"
        ),
        find_upright=lambda split: np.array(
            [image.size[0] > image.size[1] for image in found.splits[split]], bool
        ),
        has_masks=masks,
    )


def _reader(root: Path, images: list[AnnotatedImage]):
    """A function for `tf.data`: place -> an example as `DetectionSource` says."""
    names = [os.fsencode(os.path.relpath(image.path, root)) for image in images]
    read_picture = FileList.of(os.fsencode(root), names, np.zeros(len(images))).reader()
    ends = tf.constant(np.cumsum([len(image.objects) for image in images]), tf.int64)
    starts = tf.concat([[0], ends[:-1]], 0)
    shares = [
        image.objects.boxes / np.array([*image.size[::-1]] * 2, "float32") for image in images
    ]
    columns = {
        "boxes": tf.constant(np.concatenate(shares), tf.float32),
        **{
            name: tf.constant(np.concatenate([getattr(x.objects, name) for x in images]), kind)
            for name, kind in (("labels", tf.int64), ("crowd", tf.bool), ("areas", tf.float32))
        },
    }
    runs = [image.masks for image in images if image.masks is not None]
    has_masks = bool(runs)
    all_runs = tf.constant([one for of_image in runs for one in of_image], tf.string)
    sizes = tf.constant([image.size for image in images], tf.int64)

    def read(place):
        inside = slice(starts[place], ends[place])
        objects = {name: values[inside] for name, values in columns.items()}
        if has_masks:
            masks = tf.numpy_function(
                decoded_masks, [all_runs[inside], *tf.unstack(sizes[place])], tf.uint8, False
            )
            objects["masks"] = tf.ensure_shape(masks, (None, None, None))
        return {"image": read_picture(place)["image"], **objects}

    return read
