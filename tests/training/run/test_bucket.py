"""Runs whose folder is in a bucket: written, refused, interrupted and resumed there."""

import dataclasses
import io
import json
import time

import bucket
import keras
import numpy as np
import pytest

from keras_hybrid import files
from keras_hybrid.files import FolderInUseError, NotWrittenError, locked_folder, place
from keras_hybrid.training.data.sources import open_source
from keras_hybrid.training.run.run import train
from keras_hybrid.training.run.run_folder import load_run


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setattr(files, "_SETTLE_SECONDS", 0)
    return bucket.in_memory(monkeypatch)


class DenyAfter(keras.callbacks.Callback):
    """Lets nothing be written any more when an epoch begins, or at once."""

    def __init__(self, memory, epoch):
        super().__init__()
        self.memory, self.epoch = memory, epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.memory.denied = "403 Forbidden"


@pytest.mark.large
def test_a_run_lives_in_a_bucket_and_goes_on_after_the_bucket_failed(
    recipe, source, tmp_path, tiny_network, memory, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    whole = train(recipe, source, tmp_path / "here", stream=io.StringIO())
    with pytest.raises(NotWrittenError, match=r"s3://bucket/runs/a/.*is as it was.*403 Forbidden"):
        train(
            recipe,
            source,
            bucket.ADDRESS,
            stream=io.StringIO(),
            callbacks=(DenyAfter(memory, 1),),
        )
    memory.denied = None
    stream = io.StringIO()
    run = train(recipe, source, bucket.ADDRESS, stream=stream)
    assert "resuming s3://bucket/runs/a after epoch 1" in stream.getvalue()
    for first, second in zip(whole.model.weights, run.model.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    names = {name.removeprefix("/bucket/runs/a/") for name in memory.store}
    assert names == {"run.json", "state.npz", "history.csv", "best.keras", "model.keras"}
    again = load_run(bucket.ADDRESS)
    assert again.history == run.history and again.recipe == recipe
    assert "finished run" in _again(recipe, source)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]  # nothing called s3:


def _again(recipe, source):
    stream = io.StringIO()
    train(recipe, source, bucket.ADDRESS, stream=stream)
    return stream.getvalue()


def test_a_bucket_has_one_writer_and_takes_over_from_the_dead(memory):
    folder = place(bucket.ADDRESS)
    lease = folder / files.LEASE_FILE
    with locked_folder(folder):
        with pytest.raises(FolderInUseError, match="of .* is writing"), locked_folder(folder):
            pass
        held = json.loads(lease.read_text())
    assert not lease.exists()
    elsewhere = {**held, "writer": "another", "host": "another"}
    for change, is_free in (
        ({"renewed": time.time() - 10}, False),
        ({"renewed": time.time() - files.LEASE_SECONDS - 1}, True),
        ({"renewed": time.time(), "host": held["host"], "process": 2**22 + 1}, True),  # none such
    ):
        lease.write_text(json.dumps({**elsewhere, **change}))
        if is_free:
            with locked_folder(folder):
                assert json.loads(lease.read_text())["process"] == held["process"]
        else:
            with pytest.raises(FolderInUseError, match="of another is writing"):
                locked_folder(folder).__enter__()


def test_what_no_bucket_can_be_is_said(recipe, source, tmp_path, memory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="gs://, s3://, az://, hf:// are known"):
        train(recipe, source, "ftp://bucket/run")
    with pytest.raises(ValueError, match="leave `tensorboard` out"):
        train(recipe, source, bucket.ADDRESS, tensorboard=True)
    for data in ("folder:gs://bucket/photos", "gs://bucket/photos"):
        with pytest.raises(ValueError, match="mount it .* TFDS set .*Received: 'gs://bucket/"):
            open_source(data, data_dir=str(tmp_path))
    memory.denied = "403 Forbidden"
    with pytest.raises(NotWrittenError, match="403 Forbidden"):
        train(dataclasses.replace(recipe, epochs=1), source, bucket.ADDRESS)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_cannot_be_reached_is_named_with_the_cure(monkeypatch):
    memory = bucket.in_memory(monkeypatch)
    monkeypatch.setattr(memory, "exists", lambda self, path: int("no credentials"))
    with pytest.raises(ValueError, match="s3fs .*Received: 's3://bucket/runs/a'"):
        place(bucket.ADDRESS)
