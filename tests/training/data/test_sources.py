"""Data sets: the digits, TFDS, and what is refused."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_hybrid.training.data import tfds_source
from keras_hybrid.training.data.sources import ImageSource, open_source


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


def test_examples_are_read_by_place_as_they_are_in_order(digits):
    in_order = [(e["image"], e["label"]) for e in digits.split("test").as_numpy_iterator()]
    order = np.random.default_rng(0).permutation(len(in_order))
    read = digits.reader("test")
    found = tf.data.Dataset.from_tensor_slices(order).map(read).as_numpy_iterator()
    assert [(e["image"], e["label"]) for e in found] == [in_order[place] for place in order]
    assert len(list(digits.split("test", skip=350))) == 5


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


@pytest.fixture(scope="module")
def tfds_sets(require):
    """Two small sets with features of other names and kinds than the digits'."""
    require(module="tensorflow_datasets")
    import tensorflow_datasets as tfds

    class SmallSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        IMAGE, LABEL, SPLITS = "image", "label", {"train": 10}

        def _info(self):
            features = {
                self.IMAGE: tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                self.LABEL: tfds.features.ClassLabel(names=["a", "b", "c"]),
                "more": tfds.features.Sequence(np.int64),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=(self.IMAGE, self.LABEL),
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(count) for name, count in self.SPLITS.items()}

        def _generate_examples(self, count):
            for index in range(count):
                image = np.full((10, 12, 3), 20 * index, "uint8")
                yield index, {self.IMAGE: image, self.LABEL: index % 3, "more": [index]}

    class OneSplitOnly(SmallSet):
        pass

    class OtherNames(SmallSet):
        IMAGE, LABEL, SPLITS = "photo", "species", {"train": 6, "validation": 3}

    return OneSplitOnly, OtherNames


def test_any_set_with_image_and_label_will_do(tfds_sets, tmp_path):
    plain = open_source("one_split_only", str(tmp_path))
    assert plain.sizes == {"train": 8, "validation": 2} and plain.evaluation_split == "validation"
    assert plain.class_names == ("a", "b", "c")
    greys = {
        split: [
            (np.asarray(Image.open(io.BytesIO(e["image"]))).mean(), int(e["label"]))
            for e in plain.split(split).as_numpy_iterator()
        ]
        for split in plain.sizes
    }
    both = sorted(greys["train"] + greys["validation"])
    np.testing.assert_allclose([grey for grey, _ in both], np.arange(0, 200, 20), atol=2)
    assert all(round(grey / 20) % 3 == label for grey, label in both)

    # Its other file format, which has random access of its own.
    builder = tfds_sets[0](data_dir=str(tmp_path / "array"), file_format="array_record")
    builder.download_and_prepare()
    reader = tfds_source._reader_of_source(builder, "train[80%:]", "image", "label")
    example = reader(tf.constant(1, tf.int64))
    last = list(plain.split("validation").as_numpy_iterator())[1]
    assert example["image"].numpy() == last["image"] and int(example["label"]) == last["label"]

    other = open_source("other_names", str(tmp_path))
    assert other.sizes == {"train": 6, "validation": 3}
    assert set(next(iter(other.split("validation")))) == {"image", "label"}


def test_a_file_list_is_a_sequence():
    from keras_hybrid.training.data.file_list import FileList

    files = FileList.of(b"photos", [b"a.jpg", b"bird/b.jpg", b"c.png"], [2, 0, 1])
    assert list(files) == [("photos/a.jpg", 2), ("photos/bird/b.jpg", 0), ("photos/c.png", 1)]
    assert files[-1] == ("photos/c.png", 1) and files[1:] == list(files)[1:]
    assert files[::-2] == list(files)[::-2] and files[5:] == []
    assert list(files.take([2, 0])) == [files[2], files[0]]
