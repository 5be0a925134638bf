"""Data sets: the digits, TFDS, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_hybrid.training.sources import ImageSource, open_source


@pytest.fixture(scope="module")
def digits(tmp_path_factory, require):
    require(module="tensorflow_datasets")
    require(module="sklearn")
    return open_source("digits", str(tmp_path_factory.mktemp("tfds")))


def test_the_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    assert digits.sizes == {"train": 1442, "test": 355}
    assert digits.class_names == tuple("0123456789")
    pairs = []
    for split in digits.sizes:
        for example in digits.split(split).as_numpy_iterator():
            image = np.asarray(Image.open(io.BytesIO(example["image"])))
            pairs.append((int(example["label"]), image.tobytes()))
    raw = load_digits()
    expected = [
        (int(label), np.rint(image * (255 / 16)).astype("uint8").tobytes())
        for image, label in zip(raw.images, raw.target, strict=True)
    ]
    assert sorted(pairs) == sorted(expected)


def test_every_class_has_a_fifth_of_its_images_in_the_test_split(digits):
    counts = {
        split: np.bincount([int(e["label"]) for e in digits.split(split).as_numpy_iterator()])
        for split in digits.sizes
    }
    total = counts["train"] + counts["test"]
    np.testing.assert_array_equal(counts["test"], total // 5)


def test_the_order_of_a_split_never_changes(digits):
    first = [e["image"] for e in digits.split("test").as_numpy_iterator()]
    assert first == [e["image"] for e in digits.split("test").as_numpy_iterator()]


def test_unknown_sets_and_splits_are_refused(digits, tmp_path):
    with pytest.raises(ValueError, match="Received: split='dev'"):
        digits.split("dev")
    with pytest.raises(ValueError, match="'no_such_set', which TFDS does not know"):
        open_source("no_such_set", str(tmp_path))


def test_validation_comes_before_test():
    def sizes(*names):
        return ImageSource("x", ("a",), dict.fromkeys(names, 1), None)

    assert sizes("train", "test", "validation").evaluation_split == "validation"
    assert sizes("train", "test").evaluation_split == "test"
    with pytest.raises(ValueError, match=r"needs one of the splits"):
        _ = sizes("train").evaluation_split
