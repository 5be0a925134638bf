"""Class folders: splits, order, files that are no images, and what is refused."""

import dataclasses
import os
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_hybrid.training.data import file_check
from keras_hybrid.training.data.folder import read_folder
from keras_hybrid.training.data.pipeline import evaluation_dataset, training_dataset
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
            grey = 100 * label + 3 * index
            write_image(tmp_path / "pictures" / name / f"{index}.{kind}", grey, kind)
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
    source = open_source(str(pictures), str(tmp_path))  # a plain path is a folder
    examples = list(source.split("all").as_numpy_iterator())
    assert [example["label"] for example in examples] == [0] * 12 + [1] * 12
    greys = [tf.io.decode_image(example["image"]).numpy().mean() for example in examples]
    by_name = sorted(range(12), key=lambda index: f"{index}.{('jpeg', 'png')[index % 2]}")
    expected = [100 * label + 3 * index for label in (1, 0) for index in by_name]
    np.testing.assert_allclose(greys, expected, atol=2)


def test_what_is_no_image_is_counted_named_and_left_out(damaged, tmp_path, recipe):
    with pytest.warns(UserWarning, match=r"5 of 29 files .* left out: bus/cut.jpeg, bus/cut.png"):
        source = open_source(f"folder:{damaged}", str(tmp_path))
    assert source.sizes["all"] == 24
    batches = list(evaluation_dataset(source, recipe, "all"))
    assert sum(len(images) for images, _ in batches) == 24


def test_each_file_is_decoded_once(damaged, tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="5 of 29"):
        read_folder(damaged, tmp_path)
    seen = []
    check = file_check.check_file
    monkeypatch.setattr(file_check, "check_file", lambda file: seen.append(file) or check(file))
    with pytest.warns(UserWarning, match="5 of 29.*lists all that is left out"):
        left_out = read_folder(damaged, tmp_path).left_out
    assert seen == [] and len(left_out) == 5
    write_image(damaged / "bus" / "empty.jpg", 199)  # mended
    with pytest.warns(UserWarning, match="4 of 29"):
        _, splits = read_folder(damaged, tmp_path)
    assert seen == [os.fsencode(damaged / "bus" / "empty.jpg")] and len(splits["all"]) == 25


def test_photos_as_phones_and_the_web_have_them(pictures, tmp_path, recipe):
    """Turned, palette, transparent, 16 bits, WebP, TIFF, odd names: all read; HEIC with a hint."""
    bus = pictures / "bus"
    picture = Image.new("RGB", (30, 20), (250, 20, 20))
    tags = Image.Exif()
    tags[0x0112] = 6
    picture.save(bus / "turned.jpg", exif=tags)
    picture.quantize(4).save(bus / "palette.bmp")
    picture.convert("CMYK").save(bus / "cmyk.jpg")
    Image.new("RGBA", (30, 20), (9, 9, 9, 99)).save(bus / "alpha.png")
    Image.fromarray(np.full((20, 30), 40000, "uint16")).save(bus / "sixteen.png")
    picture.save(bus / "web.webp")
    picture.save(bus / "scan.tiff")
    picture.save(bus / "new\nline.JPG", "JPEG", quality=60)
    (bus / "by_day" / "monday").mkdir(parents=True)
    picture.save(bus / "by_day" / "monday" / "inner.jpg", quality=70)
    picture.save(os.fsencode(bus) + b"/caf\xe9.png", "PNG")
    (bus / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.warns(UserWarning, match="1 of 35 files.*bus/photo.heic.*pillow-heif"):
        source = open_source(f"folder:{pictures}", str(tmp_path))
    assert source.sizes["all"] == 34 and "photo.heic" in source.notes[0]
    images = np.concatenate([x for x, _ in evaluation_dataset(source, recipe, "all")])
    assert np.isfinite(images).all() and len(images) == 34
    red = [tuple(np.round(x[32, 32]).astype(int)) for x in np.concatenate(
        [x for x, _ in evaluation_dataset(source, recipe, "all", preprocess=False)])]  # fmt: skip
    assert sum(abs(r - 250) < 9 and g < 40 for r, g, _ in red) == 8


def test_copies_are_left_out_and_never_on_both_sides(pictures, tmp_path):
    for name in ("copy", "again"):
        (pictures / "bus" / f"{name}.jpeg").write_bytes((pictures / "bus" / "0.jpeg").read_bytes())
    shared = (pictures / "bus" / "2.jpeg").read_bytes()
    (pictures / "train" / "shared.jpeg").write_bytes(shared)
    with pytest.warns(UserWarning) as told:
        folder = read_folder(pictures, tmp_path)
    (told,) = [str(item.message) for item in told]
    assert "2 files are copies of another one of their class" in told and "bus/copy.jpeg" in told
    assert "2 files of all are in several classes: bus/2.jpeg, train/shared.jpeg" in told
    assert len(folder.splits["all"]) == 25
    sides = [
        split
        for split in ("train", "validation")
        for file, _ in folder.splits[split]
        if file.endswith(("bus/2.jpeg", "shared.jpeg"))
    ]
    assert len(sides) == 2 and len(set(sides)) == 1


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("train", "valid", "test"), {"train": 4, "valid": 4, "test": 4}),
        (("Train", "Val"), {"train": 4, "val": 4}),
        (("TRAINING", "Validation"), {"train": 4, "validation": 4}),
    ],
    ids=str,
)
def test_splits_are_known_by_every_usual_name(tmp_path, splits, expected, recipe):
    for split in splits:
        for index, name in enumerate("abab"):
            write_image(tmp_path / "set" / split / name / f"{index}.jpeg", 9 * index + len(split))
    write_image(tmp_path / "set" / "__MACOSX" / "a" / "0.jpeg", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = open_source(f"folder:{tmp_path / 'set'}", str(tmp_path))
    assert source.sizes == expected and source.class_names == ("a", "b")
    assert source.evaluation_split == splits[1].lower()
    small = dataclasses.replace(recipe, batch_size=2, epochs=1)
    assert len(list(training_dataset(source, small))) == 2


def test_layouts_that_are_neither(tmp_path):
    def put(*folders):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for number, folder in enumerate(folders):
            for index in range(3):
                write_image(root / folder / f"{index}.jpeg", 20 * number + 5 * index)
        return root

    def opened(root):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            folder = read_folder(root, tmp_path / "cache")
        return folder.class_names, set(folder.splits), " ".join(str(t.message) for t in told)

    classes, splits, told = opened(put("photos/a", "photos/b"))
    assert classes == ("a", "b") and "inside" in told
    classes, splits, told = opened(put("train/a", "train/b", "val/a", "labels"))
    assert classes == ("a", "b") and splits == {"train", "val"}
    assert "val has no images of b" in told and "beside the splits are left out: labels" in told
    classes, splits, told = opened(put("Train/a", "Train/b"))
    assert classes == ("a", "b") and splits == {"train", "validation", "all"}
    assert "no split beside 'Train': a part of it is held back" in told
    root = put("a", "b", ".git/c", "__MACOSX/d")
    (root / "empty").mkdir()
    write_image(root / "loose.jpeg", 7)
    classes, splits, told = opened(root)
    assert classes == ("a", "b")
    assert "no classes: empty" in told and "beside the class folders are left out: loose" in told
    assert opened(put("test", "train"))[0] == ("test", "train")
    with pytest.raises(ValueError, match="One folder for each split.*val, valid"):
        opened(put("train/a", "val/a", "valid/a"))


def test_splits_that_are_there_are_taken(tmp_path):
    for split, index in (("train", 0), ("val", 1)):
        for name in ("cat", "dog"):
            write_image(tmp_path / "set" / split / name / "a.jpeg", 50 * index + ord(name[0]))
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
    (pictures / "bicycle" / "a.jpeg").write_text("<html>")
    with pytest.raises(ValueError, match="Every class needs an image.*none in bicycle"):
        open_source(f"folder:{pictures}", str(tmp_path))
    write_image(pictures / "bicycle" / "a.jpeg", 1)
    with pytest.raises(ValueError, match="needs two images to be split.*bicycle with one"):
        open_source(f"folder:{pictures}", str(tmp_path))
