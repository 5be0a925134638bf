"""Images from files, as the programs about a `.tflite` take them."""

import os
from pathlib import Path

import keras
import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


def load_images(
    source: str | os.PathLike, shape: tuple[int, int, int], limit: int | None = None
) -> np.ndarray:
    """The images of a folder or a file.

    Args:
        source: a folder of images, searched in depth and taken in the order of their paths, each
            resized; or a .npy or .npz file of images (n, H, W, channels).
        shape: (H, W, channels) of an image.
        limit: take at most this many; None for all.

    Returns: (n, H, W, channels), float32 from a folder, as it is from a file.

    Raises:
        ValueError: where there are no images, or such of another shape.
    """
    path, shape = Path(source), tuple(shape)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"The folder has no images. Received: {source}")
        return np.stack(
            [
                keras.utils.img_to_array(keras.utils.load_img(file, target_size=shape[:2]))
                for file in files[:limit]
            ]
        )
    if not path.is_file() or path.suffix not in (".npy", ".npz"):
        raise ValueError(f"A folder, .npy or .npz is expected. Received: {source}")
    images = np.load(path)
    if path.suffix == ".npz":
        images = images[images.files[0]]
    if images.shape[1:] != shape:
        raise ValueError(f"The file takes images of shape {shape}. Received: {images.shape[1:]}")
    if not len(images):
        raise ValueError(f"The file has no images. Received: {source}")
    return images[:limit]
