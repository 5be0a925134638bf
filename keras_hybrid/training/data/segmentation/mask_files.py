"""Mask files as classes: indices of a palette, grey values, or colors that a table explains."""

import io
from collections.abc import Sequence

import numpy as np

from keras_hybrid.image_files import abbreviated
from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL

# How an image with each of EXIF's orientations is turned, as rot90's count and a mirror before it.
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True)}
_TURNS[8] = (1, False)


class MaskError(ValueError):
    """A mask that does not say which class each pixel is of."""


def read_mask(content: bytes) -> np.ndarray:
    """A mask file's values as they are stored.

    Palettes are not looked up: the index is the class. A file of three equal channels is grey.

    Args:
        content: of the file.

    Returns: int32 (H, W), or uint8 (H, W, 3) where there are colors.

    Raises:
        OSError: for what is no image.
        MaskError: for fractions.
    """
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        orientation = image.getexif().get(0x0112, 1)
        if image.mode in ("LA", "PA"):
            image = image.convert("L" if image.mode == "LA" else "P")
        if image.mode in ("RGBA", "RGBX", "CMYK", "YCbCr"):
            image = image.convert("RGB")
        if image.mode == "F":
            raise MaskError("its values are fractions")
        values = np.asarray(image)
    if values.ndim == 3:
        if (values == values[..., :1]).all():
            values = values[..., 0].astype("int32")
    else:
        values = values.astype("int32")
    return turned(values, orientation)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns as a viewer shows an image with this EXIF orientation."""
    quarters, mirrored = _TURNS.get(orientation, (0, False))
    values = values[:, ::-1] if mirrored else values
    return np.ascontiguousarray(np.rot90(values, quarters))


def as_classes(
    values: np.ndarray, num_classes: int | None, colors: Sequence[tuple[int, int, int]], offset: int
) -> np.ndarray:
    """Values of a mask file as classes.

    Args:
        values: of `read_mask`.
        num_classes: how many there are; None where it is not known yet.
        colors: of the classes, for files of colors, without those that mean nothing; after them,
            from the place `num_classes` on, such as stand for no class.
        offset: of the classes' values in the file: 1 where 0 stands for no class.

    Returns: int32 (H, W), 255 for no class.

    Raises:
        MaskError: for colors without a table, colors or classes that are not there.
    """
    if values.ndim == 3:
        return _from_colors(values, num_classes, colors)
    if offset:
        is_class = (values >= offset) & (values != IGNORED_LABEL)
        values = np.where(is_class, values - offset, IGNORED_LABEL)
    if num_classes is not None:
        wrong = np.unique(
            values[(values != IGNORED_LABEL) & ~((values >= 0) & (values < num_classes))]
        )
        if len(wrong):
            raise MaskError(
                f"it holds {abbreviated([str(x + offset) for x in wrong])}, and there are "
                f"{num_classes} classes, from {offset} on"
            )
    elif values.min(initial=0) < 0 or values.max(initial=0) > IGNORED_LABEL:
        raise MaskError(
            f"it holds values from {values.min()} to {values.max()}: classes are 0 to 254, 255 none"
        )
    return values


def _from_colors(values, num_classes, colors):
    if not colors:
        raise MaskError(
            "it is a picture of colors: put a table `colors.json` such as "
            '{"sky": [0, 128, 255], "ignore": [0, 0, 0]} beside the folders'
        )
    keys = values.astype("int32") @ np.array([1 << 16, 1 << 8, 1], "int32")
    known = np.array(colors, "int32") @ np.array([1 << 16, 1 << 8, 1], "int32")
    order = np.argsort(known)
    places = np.searchsorted(known[order], keys).clip(max=len(known) - 1)
    found = known[order][places] == keys
    if not found.all():
        missing = [str(color.tolist()) for color in np.unique(values[~found], axis=0)]
        raise MaskError(f"it holds colors that the table lacks: {abbreviated(missing)}")
    classes = order[places].astype("int32")
    return np.where(classes < num_classes, classes, IGNORED_LABEL)


def mask_decoder(num_classes: int, colors: Sequence[tuple[int, int, int]] = (), offset: int = 0):
    """A function for `tf.data`: a mask file's content and its turn -> int32 (H, W)."""
    import tensorflow as tf

    def decode(content, orientation):
        values = turned(read_mask(_bytes(content)), int(orientation))
        return as_classes(values, num_classes, colors, offset).astype("int32")

    def decode_tensor(content, orientation):
        mask = tf.numpy_function(decode, [content, orientation], tf.int32, stateful=False)
        return tf.ensure_shape(mask, (None, None))

    return decode_tensor


def _bytes(content):
    return content.item() if isinstance(content, np.ndarray) else content
