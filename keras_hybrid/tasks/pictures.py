"""Pictures as the tasks take them: files or arrays, of 0 to 255, checked."""

import os
from collections.abc import Sequence
from typing import Any, cast

import keras
import numpy as np
import numpy.typing as npt

from keras_hybrid.image_files import decode_image

Image = npt.ArrayLike | str | os.PathLike


def list_of_images(images: Image | Sequence[Image]) -> tuple[list[Any], bool]:
    """The images that a task is given, one or several, and whether it is one alone.

    Raises:
        ValueError: for an empty list.
    """
    rank = len(getattr(images, "shape", ()))
    single = isinstance(images, str | bytes | os.PathLike) or rank in (1, 2, 3)
    given = [images] if single else list(cast(Sequence[Any], images))
    if not given:
        raise ValueError("One image or more is expected. Received: none")
    return given, single


def pixels_of(image: Image) -> np.ndarray:
    """(H, W, 3), float32 of 0 to 255, of a file or an array.

    Raises:
        ValueError: for arrays of other shapes or of values that are not pixels'.
        ImageFileError: for a file that is no image; it names the file.
    """
    if isinstance(image, str | bytes | os.PathLike):
        return decode_image(os.fsdecode(image)).astype("float32")
    image = keras.ops.convert_to_numpy(image) if keras.ops.is_tensor(image) else np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.size == 0 or image.dtype.kind not in "iuf":
        raise ValueError(
            "Images (height, width, 3) of numbers, RGB, are expected. "
            f"Received: {image.dtype} of shape {image.shape}"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 255):
        raise ValueError(
            "Pixels of 0 to 255 are expected, not preprocessed ones. "
            f"Received: values from {low:.4g} to {high:.4g}"
        )
    if image.dtype.kind == "f" and 0 < high <= 1:
        raise ValueError(
            "Pixels of 0 to 255 are expected; these seem to be of 0 to 1: multiply them by 255. "
            f"Received: values from {low:.4g} to {high:.4g}"
        )
    return image.astype("float32")


def check_batch_size(batch_size: int) -> None:
    """Raises a ValueError for what is no number of images."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}"
        )
