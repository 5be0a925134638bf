"""TFDS builder of scenes of handwritten digits: dense labels that need no download."""

import tensorflow_datasets as tfds

from keras_hybrid.training.data.digit_scenes.scenes import CLASS_NAMES, digit_scenes

SIZE = 128
COUNTS = {"train": 800, "test": 200}


class Builder(tfds.core.GeneratorBasedBuilder):
    """1,000 scenes of 128 x 128 px: a class mask, instance masks and boxes, ten classes.

    The class mask holds 0 for the background and 1 + the digit on a card elsewhere; boxes and
    instance masks are of what can be seen of a card.

    Reference: https://scikit-learn.org/stable/datasets/toy_dataset.html (digits),
    https://scikit-learn.org/stable/datasets/loading_other_datasets.html (photographs).
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Digits of the UCI repository on cards, on scikit-learn's photographs.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
                    "segmentation_mask": tfds.features.Image(
                        shape=(SIZE, SIZE, 1), encoding_format="png"
                    ),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                            "mask": tfds.features.Image(
                                shape=(SIZE, SIZE, 1), encoding_format="png"
                            ),
                        }
                    ),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        for index, scene in enumerate(digit_scenes(COUNTS[split], SIZE, split=split)):
            objects = []
            for box, label, instance in zip(
                scene.boxes, scene.labels, scene.instances, strict=True
            ):
                left, top, right, bottom = (float(edge) / SIZE for edge in box)
                objects.append(
                    {
                        "bbox": tfds.features.BBox(top, left, bottom, right),
                        "label": int(label),
                        "mask": instance[..., None].astype("uint8"),
                    }
                )
            yield (
                index,
                {
                    "image": scene.image,
                    "segmentation_mask": scene.mask[..., None],
                    "objects": objects,
                },
            )
