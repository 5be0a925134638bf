"""Classification sets of TensorFlow Datasets, read in any order."""

import json

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_hybrid.training.data.image_source import EVALUATION_SPLITS, ImageSource
from keras_hybrid.training.data.records import Records
from keras_hybrid.training.data.tfds_builders import find_builder


def open_tfds(data: str, data_dir: str | None = None) -> ImageSource:
    """Opens, and where needed prepares, a set by its name.

    Args and errors are those of `open_source`.
    """
    builder = find_builder(
        data, data_dir, "'digits', 'folder:' and a path, or the name of a TFDS set"
    )
    features = builder.info.features
    image, label = _image_and_label(builder.info)
    if label is None:
        raise ValueError(
            "A classification set has an image and a label, as 'image' and 'label' or as its "
            f"supervised keys. Received: data={data!r} with {sorted(features or ())}"
        )
    builder.download_and_prepare()
    parts = {name: name for name in builder.info.splits}
    if not any(name in EVALUATION_SPLITS for name in parts) and "train" in parts:
        # TFDS has shuffled the images: the last fifth is as good as any.
        parts |= {"train": "train[:80%]", "validation": "train[80%:]"}
    readers = {}

    def open_reader(split):
        if split not in readers:
            is_records = builder.info.file_format == tfds.core.FileFormat.TFRECORD
            make = _reader_of_records if is_records else _reader_of_source
            readers[split] = make(builder, parts[split], image, label)
        return readers[split]

    sizes = {name: builder.info.splits[part].num_examples for name, part in parts.items()}
    return ImageSource(
        data,
        tuple(features[label].names),
        sizes,
        open_reader=open_reader,
        fingerprint=f"{builder.info.full_name} {json.dumps(sizes)}",
    )


def _reader_of_records(builder, part, image, label):
    instructions = builder.info.splits[part].file_instructions
    records = Records([(entry.filename, entry.skip, entry.take) for entry in instructions])
    features, decoders = builder.info.features, {image: tfds.decode.SkipDecoding()}

    def read(place):
        content = tf.numpy_function(records.read, [place], tf.string, stateful=False)
        example = features.deserialize_example(tf.ensure_shape(content, ()), decoders=decoders)
        return {"image": example[image], "label": example[label]}

    return read


def _reader_of_source(builder, part, image, label):
    """Of a file format that has random access of its own, such as ArrayRecord."""
    examples = builder.as_data_source(part, decoders={image: tfds.decode.SkipDecoding()})

    def example_at(place):
        example = examples[int(place)]
        return example[image], np.int64(example[label])

    def read(place):
        content, number = tf.numpy_function(
            example_at, [place], (tf.string, tf.int64), stateful=False
        )
        return {"image": tf.ensure_shape(content, ()), "label": tf.ensure_shape(number, ())}

    return read


def _image_and_label(info):
    """The names of the features that hold image and class; two times None where there are none."""
    features = info.features or {}
    keys = info.supervised_keys
    for image, label in (("image", "label"), keys if keys and len(keys) == 2 else (None, None)):
        if (
            image in features
            and label in features
            and isinstance(features[image], tfds.features.Image)
            and isinstance(features[label], tfds.features.ClassLabel)
        ):
            return image, label
    return None, None
