"""Metadata as apps read it: written, read back, and the file still runs."""

import zipfile

import pytest

import keras_hybrid
from keras_hybrid.export.metadata import About, read_metadata, read_record
from keras_hybrid.export.verify import verify_tflite

ABOUT = About("Digits", "Ten digits.", "1.2", "An author", "Apache-2.0", "a-preset")
LABELS = ["zero", "one", "two", "three", "fünf"]


def test_metadata_comes_back_and_the_model_still_runs(classifier, noise, tmp_path):
    path = keras_hybrid.export_tflite(
        classifier, tmp_path / "a.tflite", labels=LABELS, about=ABOUT, precision="float16"
    )
    metadata = read_metadata(path)
    assert metadata.about == ABOUT
    assert metadata.labels == tuple(LABELS)
    assert metadata.normalization is None
    assert read_record(path)["precision"] == "float16"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["labels.txt"]
    assert verify_tflite(path, classifier, noise(2)).relative_error < 0.01


def test_the_record_says_what_the_file_leaves_to_do(exported):
    _, path = exported("IFormerT")
    metadata = read_metadata(path)
    assert metadata.record["normalization"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert metadata.labels == ()
    assert metadata.record["preprocessing"] is False


def test_labels_must_be_lines(classifier, tmp_path):
    with pytest.raises(ValueError, match="one line"):
        keras_hybrid.export_tflite(
            classifier, tmp_path / "a.tflite", labels=["a\nb", "c", "d", "e", "f"]
        )
    assert not list(tmp_path.iterdir())


def test_a_file_without_metadata_says_so(classifier, tmp_path):
    import tensorflow as tf

    path = tmp_path / "plain.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(classifier).convert())
    with pytest.raises(ValueError, match="no metadata"):
        read_metadata(path)
    assert read_record(path) == {}
    with pytest.raises(ValueError, match="Received"):
        read_metadata(tmp_path / "missing.tflite")
