"""TFRecord files by place: any order, parts of files, and files that are cut off."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import training_dataset
from keras_hybrid.training.data.records import Records


@pytest.fixture
def files(tmp_path):
    """Two files of 5 and 3 records of different lengths; each record tells its place."""
    paths, place = [], 0
    for name, count in (("a", 5), ("b", 3)):
        path = str(tmp_path / name)
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(count):
                writer.write(bytes([place]) * (1 + 1000 * place))
                place += 1
        paths.append(path)
    return paths


def test_records_are_found_by_their_place_in_any_order(files):
    records = Records([(file, 0, -1) for file in files])
    assert len(records) == 8
    for place in np.random.default_rng(0).permutation(8):
        assert records.read(place) == bytes([place]) * (1 + 1000 * place)


def test_parts_of_files_are_a_sequence_of_their_own(files):
    records = Records([(files[0], 3, 2), (files[1], 0, 1)])
    assert [records.read(place)[0] for place in range(len(records))] == [3, 4, 5]
    assert len(Records([])) == 0


def test_a_file_that_is_cut_off_is_named(files):
    path = Path(files[1])
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="whole is expected.*Received: .*b, cut off after"):
        Records([(file, 0, -1) for file in files])


@pytest.mark.large
def test_twenty_shards_sorted_by_class_are_shuffled_as_one(tmp_path, recipe):
    """As TFDS' sets are read: a batch of 128 of 100 classes holds 72 +- 4 of them at random."""
    for shard in range(20):
        with tf.io.TFRecordWriter(str(tmp_path / f"{shard:02d}")) as writer:
            for place in range(750):
                writer.write(bytes([(shard * 750 + place) // 150]))
    records = Records([(str(tmp_path / f"{shard:02d}"), 0, -1) for shard in range(20)])
    jpeg = tf.io.encode_jpeg(np.zeros((16, 16, 3), "uint8"))

    def read(place):
        content = tf.numpy_function(records.read, [place], tf.string)
        label = tf.io.decode_raw(tf.ensure_shape(content, ()), tf.uint8)[0]
        return {"image": jpeg, "label": tf.cast(label, tf.int64)}

    names = tuple(map(str, range(100)))
    source = ImageSource("shards", names, {"train": 15000}, open_reader=lambda split: read)
    recipe = dataclasses.replace(recipe, batch_size=128, epochs=1, crop_area=(1.0, 1.0))
    labels = [y.numpy().argmax(-1) for _, y in training_dataset(source, recipe)]
    assert len(labels) == 117 and min(len(set(batch)) for batch in labels) >= 55
    assert np.bincount(np.concatenate(labels)).max() <= 150  # none twice
