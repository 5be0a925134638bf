"""Files that are whole or not there, whoever writes them at once."""

import io
import resource
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_hybrid.files import NotWrittenError, local_path, whole_file


def test_writers_of_one_file_do_not_mix_their_contents(tmp_path):
    path, broken, done = tmp_path / "state.npz", [], threading.Event()

    def write(value):
        arrays = {str(i): np.full(20_000, value, "float32") for i in range(5)}
        for _ in range(25):
            with whole_file(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)

    def read():
        while not done.is_set():
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            with np.load(io.BytesIO(content)) as arrays:
                if len({float(arrays[name].max()) for name in arrays.files}) > 1:
                    broken.append(1)

    writers = [threading.Thread(target=write, args=(value,)) for value in (1, 2)]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not broken and [file.name for file in tmp_path.iterdir()] == ["state.npz"]


def test_a_bucket_is_no_local_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("gs://bucket/a", "s3://bucket/a", Path("gs://bucket/a/b.npz")):
        with pytest.raises(ValueError, match="mount the bucket"):
            local_path(path)
    with pytest.raises(ValueError, match="mount the bucket"), whole_file(Path("gs://bucket/a")):
        pass  # pathlib has made one slash of two
    assert list(tmp_path.iterdir()) == []
    for fine in ("a/b", "C:/a", "/a:/b", "./gs:/a"):
        assert local_path(fine) == Path(fine)


def test_a_full_disk_is_named_and_costs_nothing(tmp_path):
    """Also where `numpy` is in the middle of a ZIP file, and hides the disk's error."""
    path = tmp_path / "state.npz"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        with (
            pytest.raises(NotWrittenError, match=r"state.npz could not be written, and is as it"),
            whole_file(path) as temporary,
            open(temporary, "wb") as file,
        ):
            np.savez(file, **{str(i): np.ones(20_000, "float32") for i in range(5)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"before" and [file.name for file in tmp_path.iterdir()] == [
        "state.npz"
    ]
