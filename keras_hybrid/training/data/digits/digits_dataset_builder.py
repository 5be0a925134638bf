"""TFDS builder of scikit-learn's handwritten digits: real images that need no download."""

import numpy as np
import tensorflow_datasets as tfds

TEST_SHARE = 5  # every fifth image of a class is a test image


class Builder(tfds.core.GeneratorBasedBuilder):
    """1,797 grey images of 8 x 8 px, ten classes, split class by class into train and test.

    Reference: https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of the UCI repository, as scikit-learn ships them.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(False), "test": self._generate_examples(True)}

    def _generate_examples(self, test):
        from sklearn.datasets import load_digits  # only whoever prepares the set needs it

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype("uint8")[..., None]
        seen = [0] * 10
        for index, (image, label) in enumerate(zip(images, digits.target, strict=True)):
            if (seen[label] % TEST_SHARE == TEST_SHARE - 1) == test:
                yield index, {"image": image, "label": int(label)}
            seen[label] += 1
