"""Checkpoint files of all formats and nestings; strangers' files are refused, never executed."""

import argparse
import json
import os
import pickle
import struct
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_hybrid.weights.checkpoints.checkpoint_files import as_float32, read_keras, read_published

STATE = {"stem.weight": np.arange(6, dtype="float32").reshape(2, 3), "stem.bias": np.ones(2)}


@pytest.fixture
def torch(require):
    require(module="torch")
    return pytest.importorskip("torch")


def tensors(torch, prefix="", scale=1.0):
    return {f"{prefix}{key}": torch.tensor(value * scale) for key, value in STATE.items()}


def assert_state(found, scale=1.0):
    assert set(found) == set(STATE)
    for key, value in STATE.items():
        np.testing.assert_array_equal(as_float32(found[key], key), value * scale)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pth.tar"])
@pytest.mark.parametrize(
    "nesting", [(), ("model",), ("module",), ("state_dict",), ("model", "module")]
)
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_pickles_of_every_nesting_and_prefix(torch, tmp_path, suffix, nesting, prefix):
    content = tensors(torch, prefix)
    for key in reversed(nesting):
        content = {key: content, "epoch": 300, "optimizer": {"lr": 0.1}}
    path = tmp_path / f"file{suffix}"
    torch.save(content, path)
    assert_state(read_published(path))


def test_pickles_from_before_the_zip_archives(torch, tmp_path):
    torch.save(tensors(torch), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_state(read_published(tmp_path / "old.pth"))


def test_a_training_programs_command_line_is_no_obstacle(torch, tmp_path):
    arguments = argparse.Namespace(model="x", lr=0.1, decay=(1, 2))
    torch.save({"state_dict": tensors(torch), "args": arguments}, tmp_path / "train.pth")
    assert_state(read_published(tmp_path / "train.pth"))


def test_moving_average_preferred_by_option(torch, tmp_path):
    content = {"state_dict": tensors(torch), "state_dict_ema": tensors(torch, "module.", 2.0)}
    torch.save(content, tmp_path / "both.pth")
    assert_state(read_published(tmp_path / "both.pth"), 2.0)
    assert_state(read_published(tmp_path / "both.pth", prefer_ema=False))


def test_what_stands_beside_a_backbone_is_kept(torch, tmp_path):
    content = tensors(torch, "module.backbone.") | {"module.neck.weight": torch.ones(3)}
    torch.save({"state_dict": content}, tmp_path / "detector.pth")
    found = read_published(tmp_path / "detector.pth")
    assert set(found) == {*(f"backbone.{key}" for key in STATE), "neck.weight"}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_number_types(torch, tmp_path, dtype):
    arrays = {
        key: value.astype(dtype if dtype != "bfloat16" else ml_dtypes.bfloat16)
        for key, value in STATE.items()
    }
    save_file(arrays, tmp_path / "file.safetensors")
    assert_state(read_published(tmp_path / "file.safetensors"))
    torch.save(
        {key: torch.tensor(value).to(getattr(torch, dtype)) for key, value in STATE.items()},
        tmp_path / "f.pth",
    )
    assert_state(read_published(tmp_path / "f.pth"))


def test_words_are_no_weights():
    with pytest.raises(ValueError, match="must be numbers. Received: a of type"):
        as_float32(np.asarray(["x"]), "a")


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("form", ["zip", "old", "bare", "beside tensors", "inside Namespace"])
def test_hostile_pickles_are_refused_and_nothing_runs(torch, tmp_path, form):
    target = tmp_path / "executed"
    path = tmp_path / "hostile.pth"
    hostile = Hostile(str(target))
    if form == "bare":
        path.write_bytes(pickle.dumps(hostile, protocol=2))
    else:
        content = {"state_dict": tensors(torch), "x": hostile}
        if form == "zip":
            content = hostile
        if form == "inside Namespace":
            content["x"] = argparse.Namespace(value=hostile)
        torch.save(content, path, _use_new_zipfile_serialization=form != "old")
    with pytest.raises(ValueError, match=r"refused; nothing in it was run .*hostile\.pth"):
        read_published(path)
    assert not target.exists()


def corrupted(path, torch):
    """The state dict in files of every format, whole: suffix -> bytes."""
    save_file(STATE, path / "x.safetensors")
    torch.save(tensors(torch), path / "x.pth")
    torch.save(tensors(torch), path / "x.pt", _use_new_zipfile_serialization=False)
    return {
        suffix: (path / f"x{suffix}").read_bytes() for suffix in (".safetensors", ".pth", ".pt")
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_truncated_files(torch, tmp_path, suffix, share):
    content = corrupted(tmp_path, torch)[suffix]
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: max(1, int(len(content) * share))])
    with pytest.raises(ValueError, match=rf"truncated or corrupt.*fetch it again.*cut{suffix}"):
        read_published(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".weights.h5", ".keras"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (
            b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title>",
            "Quota exceeded",
        ),
        (b"\n <html><body>hello", "web page .'untitled'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (np.random.default_rng(0).bytes(4096), "truncated or corrupt"),
    ],
    ids=["empty", "quota page", "page", "lfs pointer", "noise"],
)
def test_what_is_no_checkpoint(tmp_path, suffix, content, message, torch):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    read = read_keras if suffix in (".weights.h5", ".keras") else read_published
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_header_that_promises_more_than_the_file_has(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}})
    path = tmp_path / "liar.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(ValueError, match="truncated or corrupt"):
        read_published(path)


def test_missing_file_folder_and_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match="no file of that name"):
        read_published(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="a folder of that name"):
        read_published(tmp_path)
    (tmp_path / "file.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match="must end in one of"):
        read_published(tmp_path / "file.onnx")


def test_a_pickle_without_state_dict(torch, tmp_path):
    torch.save({"epoch": 3, "words": ["a"]}, tmp_path / "none.pth")
    with pytest.raises(ValueError, match="holds no state dict.*epoch"):
        read_published(tmp_path / "none.pth")


def test_without_pytorch_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "file.pth").write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-hybrid\[torch\]'"):
        read_published(tmp_path / "file.pth")


def test_an_h5_file_without_layers(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        file["a"] = np.zeros(3)
    with pytest.raises(ValueError, match="no layers with weights"):
        read_keras(tmp_path / "x.weights.h5")


def test_an_h5_file_that_points_elsewhere_is_refused(tmp_path):
    import h5py

    (tmp_path / "secret").write_bytes(bytes(12))
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "head_fc"
        group.create_dataset("0", (3,), "float32", external=[(str(tmp_path / "secret"), 0, 12)])
    with pytest.raises(ValueError, match="data in other files"):
        read_keras(tmp_path / "x.weights.h5")


def test_an_h5_file_that_promises_more_than_it_has(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "head_fc"
        group.create_dataset("0", (10**12,), "float32", chunks=(1024,))
    with pytest.raises(ValueError, match="larger than the file"):
        read_keras(tmp_path / "x.weights.h5")
