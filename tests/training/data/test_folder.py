"""Class folders: splits, order, files that are no images, and what is refused."""

import os
import warnings

import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid.training.data.folder import folder_examples, read_folder
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.data.sources import open_source


def write_image(path, grey, kind="jpeg"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20, 30, 3), grey, "uint8")
    encode = {"jpeg": tf.io.encode_jpeg, "png": tf.io.encode_png}[kind]
    path.write_bytes(encode(pixels).numpy())


@pytest.fixture
def pictures(tmp_path):
    """Twelve images of each of the classes bus and train; a class may have a split's name."""
    for label, name in enumerate(("train", "bus")):
        for index in range(12):
            kind = ("jpeg", "png")[index % 2]
            write_image(tmp_path / "pictures" / name / f"{index}.{kind}", 100 * label, kind)
    return tmp_path / "pictures"


@pytest.fixture
def damaged(pictures):
    """Five files of different faults among them, and two that are none of the data's."""
    whole = (pictures / "bus" / "0.jpeg").read_bytes()
    (pictures / "bus" / "cut.jpeg").write_bytes(whole[: len(whole) // 2])
    (pictures / "bus" / "cut.png").write_bytes((pictures / "bus" / "1.png").read_bytes()[:60])
    (pictures / "bus" / "empty.jpg").write_bytes(b"")
    (pictures / "train" / "notes.txt").write_text("not an image")
    (pictures / "train" / "page.jpg").write_text("<html>404</html>")
    (pictures / "train" / ".DS_Store").write_text("hidden")
    (pictures / "readme.md").write_text("beside the classes")
    return pictures


def test_a_folder_is_split_class_by_class_and_never_otherwise(pictures, tmp_path):
    source = open_source(f"folder:{pictures}", str(tmp_path))
    assert source.class_names == ("bus", "train") and source.evaluation_split == "validation"
    assert source.sizes == {"train": 20, "validation": 4, "all": 24}
    _, splits = read_folder(pictures, tmp_path)
    labels = [label for _, label in splits["validation"]]
    assert labels == [0, 0, 1, 1] and not set(splits["train"]) & set(splits["validation"])
    moved = tmp_path / "elsewhere"
    os.rename(pictures, moved)
    _, again = read_folder(moved, tmp_path / "other_cache")
    for split, files in splits.items():
        assert [file.replace(str(pictures), str(moved)) for file, _ in files] == [
            file for file, _ in again[split]
        ]


def test_images_come_with_their_labels_in_order(pictures, tmp_path):
    _, splits = read_folder(pictures, tmp_path)
    examples = list(folder_examples(splits["all"]).as_numpy_iterator())
    assert [example["label"] for example in examples] == [0] * 12 + [1] * 12
    greys = [tf.io.decode_image(example["image"]).numpy().mean() for example in examples]
    np.testing.assert_allclose(greys, [100] * 12 + [0] * 12, atol=2)


def test_what_is_no_image_is_counted_named_and_left_out(damaged, tmp_path, recipe):
    with pytest.warns(UserWarning, match=r"5 of 29 files .* left out: bus/cut.jpeg, bus/cut.png"):
        source = open_source(f"folder:{damaged}", str(tmp_path))
    assert source.sizes["all"] == 24
    batches = list(evaluation_dataset(source, recipe, "all"))
    assert sum(len(images) for images, _ in batches) == 24


def test_each_file_is_decoded_once(damaged, tmp_path, monkeypatch):
    import keras_hybrid.training.data.folder as folder

    with pytest.warns(UserWarning, match="5 of 29"):
        read_folder(damaged, tmp_path)
    seen = []
    is_image = folder._is_image
    monkeypatch.setattr(folder, "_is_image", lambda file: seen.append(file) or is_image(file))
    with pytest.warns(UserWarning, match="5 of 29"):
        read_folder(damaged, tmp_path)
    assert seen == []
    write_image(damaged / "bus" / "empty.jpg", 100)  # mended
    with pytest.warns(UserWarning, match="4 of 29"):
        _, splits = read_folder(damaged, tmp_path)
    assert seen == [str(damaged / "bus" / "empty.jpg")] and len(splits["all"]) == 25


def test_splits_that_are_there_are_taken(pictures, tmp_path):
    for split, index in (("train", 0), ("val", 1)):
        for name in ("cat", "dog"):
            write_image(tmp_path / "set" / split / name / "a.jpeg", index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(f"folder:{tmp_path / 'set'}", str(tmp_path))
    assert source.sizes == {"train": 2, "val": 2} and source.evaluation_split == "val"
    assert source.class_names == ("cat", "dog")
    write_image(tmp_path / "set" / "val" / "cow" / "a.jpeg", 1)
    with pytest.raises(ValueError, match="the same class folders.*cow"):
        open_source(f"folder:{tmp_path / 'set'}", str(tmp_path))


def test_folders_without_data_are_refused(pictures, tmp_path):
    with pytest.raises(ValueError, match="no folder of that name. Received: folder:/.*none"):
        open_source(f"folder:{tmp_path / 'none'}", str(tmp_path))
    with pytest.raises(ValueError, match="holds no folders"):
        open_source(f"folder:{pictures / 'bus'}", str(tmp_path))
    (pictures / "bicycle").mkdir()
    with pytest.raises(ValueError, match="Every class needs an image.*none in bicycle"):
        open_source(f"folder:{pictures}", str(tmp_path))
    write_image(pictures / "bicycle" / "a.jpeg", 1)
    with pytest.raises(ValueError, match="needs two images to be split.*bicycle with one"):
        open_source(f"folder:{pictures}", str(tmp_path))
