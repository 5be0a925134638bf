"""Handwritten digits as the photos that people have: JPEGs of many sizes, turned, with palettes."""

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ORIENTATION = 0x0112  # EXIF's tag
# How the pixels lie, by the tag's value that turns them upright again.
TURNED = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def write_digit_photos(folder, digits, count: int, first: int = 0, side: tuple = (60, 240)):
    """Writes a folder of class folders.

    Args:
        folder: to write.
        digits: the classes, such as range(5).
        count: photos a class.
        first: of scikit-learn's digits of the class.
        side: least and greatest height and width, in pixels.
    """
    from sklearn.datasets import load_digits

    data, random = load_digits(), np.random.default_rng(first)
    for digit in digits:
        own = Path(folder) / NAMES[digit]
        own.mkdir(parents=True, exist_ok=True)
        places = np.flatnonzero(data.target == digit)[first : first + count]
        for index, place in enumerate(places):
            height, width = random.integers(*side, 2)
            image = Image.fromarray((15.9 * data.images[place]).astype("uint8"))
            image = image.resize((int(width), int(height)), Image.Resampling.BICUBIC)
            _write(image.convert("RGB"), own, index)


def _write(image, folder, index):
    if index % 10 == 7:
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / f"{index}.png")
        return
    tag = (1, 1, 1, 3, 6, 8)[index % 6]
    if TURNED[tag] is not None:
        image = image.transpose(TURNED[tag])
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    image.save(folder / f"{index}.jpg", quality=85, exif=exif)
