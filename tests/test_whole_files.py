"""Files that are whole or not there, whoever writes them at once."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_hybrid.files import local_path, whole_file


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


@pytest.mark.parametrize("path", ["gs://bucket/a", "s3://bucket/a", Path("gs://bucket/a/b.npz")])
def test_a_bucket_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="mount the bucket"), whole_file(path):
        pass
    assert list(tmp_path.iterdir()) == []
    for fine in ("a/b", "C:/a", "/a:/b", "./gs:/a"):
        assert local_path(fine) == Path(fine)
