"""A folder of pictures beside a folder of masks: each pair looked at once, problems named."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.files import write_text
from keras_hybrid.image_files import abbreviated, decode_image
from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL
from keras_hybrid.training.data.file_list import FileList
from keras_hybrid.training.data.folder import VALIDATION_SHARE
from keras_hybrid.training.data.layout import TRAIN, VALIDATION, split_name
from keras_hybrid.training.data.segmentation.mask_files import (
    MaskError,
    as_classes,
    mask_decoder,
    read_mask,
)
from keras_hybrid.training.data.segmentation.mask_layout import find_mask_layout
from keras_hybrid.training.data.segmentation.segmentation_source import SegmentationSource

FOLDER_PREFIX = "folder:"
SMALLEST = 8  # pixels of a side: less shows nothing
UPRIGHT = 1


@dataclass(frozen=True)
class _Look:
    """What was seen of a pair.

    Attributes:
        classes: that the mask holds, without 255; None where they are for a table to tell.
        turn: EXIF's orientation by which the mask has to be turned along with its picture.
        size: of the picture as it is shown, (height, width).
        unclear: whether the picture is turned in a way that sizes cannot tell of the mask.
        left_out: why the pair is of no use; "" where it is.
        error: what is wrong with it; "" where nothing is.
    """

    classes: tuple[int, ...] = ()
    turn: int = UPRIGHT
    size: tuple[int, int] = (0, 0)
    unclear: bool = False
    left_out: str = ""
    error: str = ""


def read_mask_folder(path: str | os.PathLike, cache: str | os.PathLike) -> SegmentationSource:
    """The pictures and masks of a folder, as `find_mask_layout` tells them.

    Without splits, a fifth of the pictures, told by a hash of their names, becomes "validation".
    The classes are those of `colors.json`, `colors.txt` or `classes.txt` in the folder, or as many
    as the masks hold. A mask of its picture's stored size is turned along where EXIF turns that.

    Args:
        path: of the folder.
        cache: folder where it is kept what was seen of each pair, until a file changes.

    Raises:
        ValueError: for another folder; masks of another size than their picture; values beyond
            the classes; colors without a table, or that it lacks; one class alone; no picture to
            train on. It names the files.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"There is no folder of that name. Received: folder:{root}")
    layout = find_mask_layout(root)
    notes = list(layout.notes)
    every = [pair for pairs in layout.pairs.values() for pair in pairs]
    if not every:
        raise ValueError(
            "Pictures and masks of the same name, such as images/a.jpg and masks/a.png, are "
            f"expected. Received: folder:{root} without. {'; '.join(notes)}"
        )
    names = layout.class_names
    looks = _looks(root, every, layout, cache)
    wrong = [f"{mask}: {look.error}" for (_, mask), look in looks.items() if look.error]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(every)} masks in {root} do not say which class each pixel of "
            f"their picture is of. Received: {'; '.join(wrong[:3])}"
            + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )
    held = sorted({label for look in looks.values() for label in look.classes})
    if names is None:
        names = tuple(str(label) for label in range(max(held, default=0) + 1))
    if len(names) > IGNORED_LABEL:
        raise ValueError(
            f"At most {IGNORED_LABEL} classes are expected, as {IGNORED_LABEL} stands for none. "
            f"Received: folder:{root} with {len(names)}"
        )
    if len(held) < 2:
        only = names[held[0]] if held else "none"
        raise ValueError(
            "Masks of two classes or more are expected, the background counted. "
            f"Received: folder:{root}, whose masks hold one class alone: {only}"
        )
    for reason in sorted({look.left_out for look in looks.values() if look.left_out}):
        found = [picture for (picture, _), look in looks.items() if look.left_out == reason]
        notes.append(
            f"{len(found)} of {len(every)} pictures {reason}, and are left out: "
            f"{abbreviated(found)}"
        )
    if unclear := [picture for (picture, _), look in looks.items() if look.unclear]:
        notes.append(
            f"{len(unclear)} pictures are turned by EXIF, and their masks are taken to be drawn on "
            f"what a viewer shows: {abbreviated(unclear)}"
        )
    absent = [name for label, name in enumerate(names) if label not in held]
    if absent and layout.class_names is not None:
        notes.append(f"no mask holds {abbreviated(absent)}")
    kept = {
        split: [pair for pair in pairs if not looks[pair].left_out]
        for split, pairs in layout.pairs.items()
    }
    splits = _split(kept.pop(None), root) if None in kept else _named(kept)
    if not splits.get(TRAIN):
        raise ValueError(
            f"A picture to train on is expected. Received: folder:{root}. {'; '.join(notes)}"
        )
    if notes:
        warnings.warn(f"{root}: {'; '.join(notes)}.", stacklevel=3)
    sizes = {looks[pair].size for pairs in splits.values() for pair in pairs}
    decode = mask_decoder(len(names), layout.colors, layout.offset)
    return SegmentationSource(
        f"{FOLDER_PREFIX}{root}",
        names,
        {split: len(pairs) for split, pairs in splits.items()},
        open_reader=lambda split: _reader(root, splits[split], looks),
        notes=tuple(notes),
        decode_mask=lambda example: decode(example["mask"], example["turn"]),
        image_size=sizes.pop() if len(sizes) == 1 else None,
    )


def _named(kept):
    """The author's own splits, that to train on as "train"."""
    return {TRAIN if split_name(split) == TRAIN else split: pairs for split, pairs in kept.items()}


def _split(pairs, root):
    if len(pairs) < 2:
        raise ValueError(
            "Two pictures are needed to be split into train and validation. "
            f"Received: folder:{root} with {len(pairs)}"
        )
    order = sorted(pairs, key=lambda pair: hashlib.sha256(os.fsencode(pair[0])).digest())
    taken = set(order[: max(1, round(VALIDATION_SHARE * len(pairs)))])
    return {
        TRAIN: [pair for pair in pairs if pair not in taken],
        VALIDATION: [pair for pair in pairs if pair in taken],
    }


def _reader(root, pairs, looks) -> Callable:
    pictures, masks = ([os.fsencode(name) for name in names] for names in zip(*pairs, strict=True))
    turns = [looks[pair].turn for pair in pairs]
    read_picture = FileList.of(os.fsencode(root), pictures, np.zeros(len(pairs))).reader()
    read_file = FileList.of(os.fsencode(root), masks, turns).reader()

    def read(place):
        mask = read_file(place)
        return {"image": read_picture(place)["image"], "mask": mask["image"], "turn": mask["label"]}

    return read


def _looks(root, pairs, layout, cache) -> dict[tuple[str, str], _Look]:
    """What was seen of each pair, now or before."""
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    record = Path(cache) / "keras_hybrid_folders" / f"{digest}.masks.json"
    meaning = [list(layout.class_names or ()), list(map(list, layout.colors)), layout.offset]
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        known = known["pairs"] if known["meaning"] == meaning else {}
    except (OSError, ValueError, KeyError, TypeError):
        known = {}

    def look(pair):
        stamp = [
            [(root / name).stat().st_size, (root / name).stat().st_mtime_ns]
            for name in pair
            if (root / name).exists()
        ]
        seen = known.get(" ".join(pair))
        if seen and seen["stamp"] == stamp:
            return (
                pair,
                stamp,
                _Look(
                    **{
                        name: tuple(value) if isinstance(value, list) else value
                        for name, value in seen["look"].items()
                    }
                ),
            )
        return pair, stamp, _look(root, pair, layout)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(look, pairs))
    described = {
        " ".join(pair): {"stamp": stamp, "look": vars(look)} for pair, stamp, look in found
    }
    write_text(record, json.dumps({"meaning": meaning, "pairs": described}))
    return {pair: look for pair, _, look in found}


def _look(root, pair, layout) -> _Look:
    from PIL import Image

    picture, mask = (root / name for name in pair)
    try:
        size = decode_image(picture).shape[:2]
        with Image.open(picture) as image:
            stored, orientation = image.size[::-1], image.getexif().get(0x0112, UPRIGHT)
    except (ValueError, OSError):
        return _Look(left_out="cannot be read")
    try:
        values = read_mask(mask.read_bytes())
        classes = as_classes(
            values,
            None if layout.class_names is None else len(layout.class_names),
            layout.colors,
            layout.offset,
        )
    except (OSError, ValueError) as error:
        said = str(error) if isinstance(error, MaskError) else "it is no image that can be read"
        return _Look(error=said)
    turn = UPRIGHT
    if classes.shape != size:
        if classes.shape == stored:  # drawn on the picture as it lies in the file
            turn = orientation
        else:
            return _Look(error=f"it is {_px(classes.shape)}, its picture {_px(size)}")
    left_out = ""
    if min(size) < SMALLEST:
        left_out = f"are less than {SMALLEST} px high or wide"
    present = _labels(classes)
    if not present:
        left_out = "have no labelled pixel"
    unclear = orientation not in (0, UPRIGHT) and size == stored
    return _Look(present if not left_out else (), turn, size, unclear, left_out)


def _labels(classes: np.ndarray) -> tuple[int, ...]:
    return tuple(int(label) for label in np.unique(classes) if label != IGNORED_LABEL)


def _px(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]} px"
