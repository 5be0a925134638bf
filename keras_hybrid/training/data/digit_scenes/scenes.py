"""Scenes for dense prediction: handwritten digits on cards of many colors, on real photographs.

What detection and segmentation are tried with where nothing can be downloaded: real strokes, real
backgrounds, and masks and boxes that are exact because the scene was put together here.
"""

import functools
from dataclasses import dataclass

import numpy as np

from keras_hybrid.training.data.digits.handwriting import SPLITS, handwritten_digits

CLASS_NAMES = tuple("0123456789")
SIZES = (1 / 5, 2 / 3)  # side of a card over the side of the picture
MAXIMUM_ANGLE = 20  # degrees
MAXIMUM_COVERED = 0.25  # share of a card that later cards may hide
ATTEMPTS = 30  # at a place for a card
COUNTS = (1, 2, 2, 3, 3, 4)  # cards of a scene, each as likely
SMALLEST = 16


@dataclass(frozen=True)
class Scene:
    """A picture, and what is where in it.

    Attributes:
        image: uint8 (size, size, 3), RGB.
        mask: uint8 (size, size): 0 where there is no card, else 1 + the digit on it.
        instances: bool (n, size, size): the visible part of each card.
        boxes: float32 (n, 4): left, top, right and bottom of that part, in pixels.
        labels: int64 (n,): the digit on each card, 0 to 9.
    """

    image: np.ndarray
    mask: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def digit_scenes(count: int, size: int = 128, seed: int = 0, split: str = "train") -> list[Scene]:
    """Scenes of one to four cards, each with a digit, on a crop of a photograph.

    A card is a disc or a rounded square of one color, turned a little; the card is the object, as
    strokes are thinner than the stride of most heads. Digits and photographs are scikit-learn's.
    A scene follows from seed, split and its number alone: the first ones of a longer list are
    those of a shorter one.

    Args:
        count: of scenes.
        size: height and width, in pixels.
        seed: of everything that is drawn.
        split: "train" or "test": which digits are on the cards, none of them in both.

    Raises:
        ValueError: for an unknown split, no scenes, or less than 16 px.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
    for name, value, least in (("count", count, 1), ("size", size, SMALLEST)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
            )
    return [_scene(size, (seed, SPLITS.index(split), number)) for number in range(count)]


def _scene(size, key):
    """One scene; `key` is seed, split and number."""
    random = np.random.default_rng(key)
    _, digits, targets = handwritten_digits(SPLITS[key[1]])
    canvas = _background(random, size)
    owner = np.full((size, size), -1)  # which card is on top
    areas, labels = [], []
    for _ in range(random.choice(COUNTS)):
        place = _place(random, size, owner, areas)
        if place is None:
            continue
        distance, across, down = place
        index = random.integers(len(digits))
        card = random.uniform(30, 226, 3)
        ink = random.uniform(0, 25, 3) if card.mean() > 127 else random.uniform(230, 255, 3)
        stroke = _sample(digits[index] / 16, across, down)[..., None]
        face = card + (ink - card) * stroke
        opacity = np.clip(0.5 - distance, 0, 1)[..., None]  # one pixel of soft edge
        canvas += (face - canvas) * opacity
        inside = distance < 0
        owner[inside] = len(areas)
        areas.append(np.count_nonzero(inside))
        labels.append(targets[index])
    instances = owner == np.arange(len(areas))[:, None, None]
    labels = np.asarray(labels, "int64")
    mask = np.concatenate([[0], labels + 1]).astype("uint8")[owner + 1]
    boxes = np.asarray([_box(instance) for instance in instances], "float32").reshape(-1, 4)
    return Scene(np.rint(canvas).astype("uint8"), mask, instances, boxes, labels)


def _place(random, size, owner, areas):
    """A free place for a card.

    Returns: the signed distance in pixels of each pixel to the card's edge, negative inside, and
        each pixel's place on the card's face, from -1 to 1 across and down: (size, size) each.
        None where no place was found.
    """
    grid = np.arange(size) + 0.5
    for _ in range(ATTEMPTS):
        side = size * random.uniform(*SIZES)
        left, top = random.uniform(0, size - side, 2)
        angle = np.radians(random.uniform(-MAXIMUM_ANGLE, MAXIMUM_ANGLE))
        is_disc = random.random() < 0.5
        x, y = (grid - left - side / 2)[None, :], (grid - top - side / 2)[:, None]
        # The square is a little smaller, so that it lies in the picture when it is turned.
        half = side / 2 if is_disc else side / 2 / (abs(np.cos(angle)) + abs(np.sin(angle)))
        across = (x * np.cos(angle) + y * np.sin(angle)) / half
        down = (y * np.cos(angle) - x * np.sin(angle)) / half
        radius = 1.0 if is_disc else 0.3
        outer = np.stack([np.abs(across), np.abs(down)]) - (1 - radius)
        distance = np.hypot(*np.maximum(outer, 0)) + np.minimum(outer.max(0), 0) - radius
        inside = distance < 0
        hidden = np.bincount(owner[inside] + 1, minlength=len(areas) + 1)[1:]
        left_over = [
            np.count_nonzero(owner == index) - hidden[index] >= (1 - MAXIMUM_COVERED) * area
            for index, area in enumerate(areas)
        ]
        if all(left_over):
            scale = 0.66 if is_disc else 0.8  # of the digit on the card
            return distance * half, across / scale, down / scale
    return None


def _sample(digit, across, down):
    """A digit's ink, from 0 to 1, at places from -1 to 1; none outside."""
    padded = np.pad(digit, 1)
    row = np.clip((down + 1) * 4 + 0.5, 0, 8.999)
    column = np.clip((across + 1) * 4 + 0.5, 0, 8.999)
    top, left = row.astype(int), column.astype(int)
    low, right = row - top, column - left
    upper = padded[top, left] * (1 - right) + padded[top, left + 1] * right
    lower = padded[top + 1, left] * (1 - right) + padded[top + 1, left + 1] * right
    return np.clip(1.6 * (upper * (1 - low) + lower * low) - 0.2, 0, 1)


def _box(instance):
    """Left, top, right and bottom of a mask."""
    rows, columns = np.flatnonzero(instance.any(1)), np.flatnonzero(instance.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _background(random, size):
    """A crop of one of the photographs, mirrored half of the time: float (size, size, 3)."""
    from PIL import Image

    photo = _photos()[random.integers(2)]
    height, width = photo.shape[:2]
    side = int(random.uniform(0.3, 1) * min(height, width))
    top, left = random.integers(height - side + 1), random.integers(width - side + 1)
    crop = Image.fromarray(photo[top : top + side, left : left + side])
    crop = np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR), "float64")
    return crop[:, ::-1].copy() if random.random() < 0.5 else crop.copy()


@functools.cache
def _photos():
    from sklearn.datasets import load_sample_images

    return load_sample_images().images
