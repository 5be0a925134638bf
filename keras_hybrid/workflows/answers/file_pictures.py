"""What a picture goes through on its way into a `.tflite`, by the file's own record."""

import os
from collections.abc import Sequence

import numpy as np

from keras_hybrid.weights.family import Preprocessing


def before_file(record: dict, padding: Sequence[float], path: str | os.PathLike) -> Preprocessing:
    """What pixels become before the file, in RGB, so that padding is 0.

    Args:
        record: of the file.
        padding: the color beside a picture, as the file takes it.
        path: of the file, for the error.

    Raises:
        ValueError: for a file that does not say how its images are normalized.
    """
    if record["preprocessing"]:
        mean = [value / 255 for value in padding]
        std = (1 / 255,) * 3
    elif "normalization" in record:
        mean, std = (
            np.broadcast_to(np.array(record["normalization"][key]) / 255, 3)
            for key in ("mean", "std")
        )
    else:
        raise ValueError(
            "A file that says how its images are normalized is expected: export it with "
            f"preprocessing=. Received: {path}"
        )
    return Preprocessing(0, 1.0, "bilinear", tuple(mean), tuple(std))


def as_file_takes(images: np.ndarray, record: dict, padding: Sequence[float]) -> np.ndarray:
    """Images (n, H, W, 3) that `before_file` has prepared, in the file's colors and order."""
    if record["preprocessing"]:
        return images + np.array(padding, "float32")
    return images[..., ::-1] if record["channel_order"] == "BGR" else images
