"""Timing of files in turns."""

import pytest

import keras_hybrid
from keras_hybrid.export.interleaved import time_interleaved


def test_the_first_file_is_the_measure_of_the_others(classifier, exported, tmp_path):
    small = keras_hybrid.export_tflite(classifier, tmp_path / "small.tflite")
    _, large = exported("IFormerT")
    first, second, again = time_interleaved([small, large, small], rounds=3, seconds=0.02)
    assert first.ratio == first.low == first.high == 1
    assert second.low <= second.ratio <= second.high
    assert second.ratio > 5 and second.median_ms > first.median_ms
    assert 0.3 < again.ratio < 3


def test_bad_arguments_are_named(classifier, tmp_path):
    path = keras_hybrid.export_tflite(classifier, tmp_path / "a.tflite")
    for arguments, message in (
        (([],), "paths"),
        (([path, tmp_path / "missing.tflite"],), "missing.tflite"),
        (([path], 0), "rounds=0"),
        (([path], 1, 0.0), "seconds=0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            time_interleaved(*arguments)
