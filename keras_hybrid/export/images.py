"""Images from files, as the programs about a `.tflite` take them."""

import os
import zipfile
from pathlib import Path

import numpy as np

from keras_hybrid.image_files import readable_images, sample_image_files


def load_images(
    source: str | os.PathLike, shape: tuple[int, int, int], limit: int | None = None
) -> np.ndarray:
    """The images of a folder or a file.

    Args:
        source: a folder of images, searched in depth, each resized; files that cannot be read are
            named and left out; or a .npy or .npz file of images (n, H, W, channels).
        shape: (H, W, channels) of an image.
        limit: take at most this many, of each folder in the folder alike; None for all.

    Returns: (n, H, W, channels), float32 from a folder, as it is from a file.

    Raises:
        ValueError: where there are no images, or such of another shape.
    """
    path, shape = Path(source), tuple(shape)
    if path.is_dir():
        files = sample_image_files(path, limit)
        images = [_resized(pixels, shape) for _, pixels in readable_images(files)]
        if not images:
            raise ValueError(
                "A folder with images that can be read is expected. "
                f"Received: {source}, {len(files)} image files"
            )
        return np.stack(images)
    if not path.is_file() or path.suffix not in (".npy", ".npz"):
        raise ValueError(f"A folder, .npy or .npz is expected. Received: {source}")
    try:
        images = np.load(path)
        if path.suffix == ".npz":
            images = images[images.files[0]]
    except (ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise ValueError(
            "The file is damaged, empty or holds no plain array: save one with `numpy.save`. "
            f"Received: {source}"
        ) from error
    if images.shape[1:] != shape:
        raise ValueError(f"The file takes images of shape {shape}. Received: {images.shape[1:]}")
    if not len(images):
        raise ValueError(f"The file has no images. Received: {source}")
    return images[:limit]


def _resized(pixels, shape):
    """An image's pixels in another size, bilinear: (H, W, 3) -> `shape`, float32."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if shape[-1] == 1:
        image = image.convert("L")
    image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, "float32").reshape(shape)
