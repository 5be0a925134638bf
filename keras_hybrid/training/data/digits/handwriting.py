"""scikit-learn's handwritten digits, split into those to train with and those to test with."""

import functools

import numpy as np

SPLITS = ("train", "test")
TEST_SHARE = 5  # every fifth image of a class is a test image


@functools.cache
def handwritten_digits(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The digits of a split.

    Args:
        split: "train" or "test".

    Returns: the number of each image in scikit-learn's set (n,), the images (n, 8, 8) from 0 to
        16, and which digits they are (n,).

    Reference: https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
    """
    from sklearn.datasets import load_digits  # only whoever prepares a set needs it

    digits = load_digits()
    seen, kept = [0] * 10, []
    for index, label in enumerate(digits.target):
        if (seen[label] % TEST_SHARE == TEST_SHARE - 1) == (split == "test"):
            kept.append(index)
        seen[label] += 1
    return np.asarray(kept), digits.images[kept], digits.target[kept]
