"""Sets of TensorFlow Datasets by name, this package's own among them."""

import importlib

import tensorflow_datasets as tfds

# The package's own sets: no download, so that TFDS need not know them.
OWN = {
    name: f"keras_hybrid.training.data.{name}.{name}_dataset_builder"
    for name in ("digits", "digit_scenes")
}


def find_builder(data: str, data_dir: str | None, choices: str) -> tfds.core.DatasetBuilder:
    """TFDS' builder of a set, which prepares and reads it.

    Args:
        data: "digits", "digit_scenes", or a name that TFDS knows.
        data_dir: TFDS' folder of prepared sets; None for its default.
        choices: what `data` may be, for the message.

    Raises:
        ValueError: for an unknown set.
    """
    if data in OWN:
        return importlib.import_module(OWN[data]).Builder(data_dir=data_dir)
    try:
        return tfds.builder(data, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"`data` must be {choices}. Received: data={data!r}, which TFDS does not know"
        ) from error
