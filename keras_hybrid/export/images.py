"""Images from files, as the programs about a `.tflite` take them."""

import os
import zipfile
from pathlib import Path

import numpy as np

from keras_hybrid.image_files import readable_images, sample_image_files
from keras_hybrid.weights.evaluation import evaluation_image
from keras_hybrid.weights.family import Preprocessing


def load_images(
    source: str | os.PathLike,
    shape: tuple[int, int, int],
    limit: int | None = None,
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """The images of a folder or a file.

    Args:
        source: a folder of images, searched in depth, each resized and its centre cut out; files
            that cannot be read are named and left out; or a .npy or .npz file of images
            (n, H, W, channels).
        shape: (H, W, channels) of an image.
        limit: take at most this many, of each folder in the folder alike; None for all.
        preprocessing: of the network, whose evaluation says how images are resized and cut; None
            for one that is not known.

    Returns: (n, H, W, channels), float32 from a folder, as it is from a file.

    Raises:
        ValueError: where there are no images, or such of another shape.
    """
    path, shape = Path(source), tuple(shape)
    if path.is_dir():
        files = sample_image_files(path, limit)
        images = [_resized(pixels, shape, preprocessing) for _, pixels in readable_images(files)]
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


def _resized(pixels, shape, preprocessing):
    """An image's pixels in another size, as evaluation would show them: -> `shape`, float32."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    if preprocessing is not None and height == width and channels == 3:
        return np.asarray(evaluation_image(pixels, preprocessing, height))
    image = Image.fromarray(pixels)
    if channels == 1:
        image = image.convert("L")
    image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)  # not stretched: cut
    return np.asarray(image, "float32").reshape(shape)
