"""Names of the ImageNet-1k classes, and predictions in words."""

import functools
from importlib import resources

import numpy as np
import numpy.typing as npt


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(synset, names) of the 1,000 classes, in the order of every published network's outputs.

    That is the order of the synsets. The names are WordNet 3.0's, whose licence permits to
    redistribute them, as collected in timm 1.0.31 (Apache-2.0, timm/data/_info); they stand in
    imagenet_classes.tsv beside this file, so that nothing is fetched.
    """
    table = resources.files(__package__).joinpath("imagenet_classes.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in table.splitlines())
    return tuple((synset, names) for synset, names in rows)


def decode_predictions(
    predictions: npt.ArrayLike, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """The most probable ImageNet-1k classes of each image.

    Args:
        predictions: (batch, 1000), an array or tensor: probabilities or logits.
        top: how many classes an image.

    Returns: for each image a list of (synset, name, prediction), the best first. The name is
        WordNet's first, such as "tabby"; `imagenet_classes()` has all.

    Raises:
        ValueError: for another shape or a `top` outside 1 to 1000.
    """
    predictions = np.asarray(predictions)
    classes = imagenet_classes()
    if predictions.ndim != 2 or predictions.shape[1] != len(classes):
        raise ValueError(
            f"Predictions (batch, {len(classes)}) are expected. Received: shape {predictions.shape}"
        )
    if not isinstance(top, int) or not 1 <= top <= len(classes):
        raise ValueError(f"`top` must be from 1 to {len(classes)}. Received: top={top!r}")
    best = np.argsort(-predictions, axis=1, kind="stable")[:, :top]
    return [
        [(classes[i][0], classes[i][1].split(", ")[0], float(row[i])) for i in indices]
        for row, indices in zip(predictions, best, strict=True)
    ]
