"""TFDS builder of scikit-learn's handwritten digits: real images that need no download."""

import numpy as np
import tensorflow_datasets as tfds

from keras_hybrid.training.data.digits.handwriting import SPLITS, handwritten_digits


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
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
        for index, image, label in zip(*handwritten_digits(split), strict=True):
            image = np.rint(image * (255 / 16)).astype("uint8")[..., None]
            yield int(index), {"image": image, "label": int(label)}
