"""Where pictures and masks of a folder are, and what its classes are called."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from keras_hybrid.image_files import HEIF_SUFFIXES, SUFFIXES, is_ignored
from keras_hybrid.tasks.segmentation.class_tables import ade20k_table, voc_table
from keras_hybrid.training.data.layout import split_name, visible_folders

PICTURES = ("images", "image", "imgs", "img", "pictures", "photos", "jpegimages")
MASKS = (
    *("masks", "mask", "annotations", "annotation", "labels", "label", "segmentation"),
    *("segmentations", "segmentationclass"),
)
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
# What names of masks may have after those of their pictures.
MASK_ENDINGS = ("", "_mask", "_label", "_labels", "_seg", "_L")
IGNORED_NAMES = ("ignore", "ignored", "void", "unlabeled", "unlabelled", "none")


@dataclass(frozen=True)
class MaskLayout:
    """What is where in a folder of pictures and masks.

    Attributes:
        pairs: from a split's name, None where there are none, to names of pictures and masks in
            the folder.
        class_names: of the classes; None where nothing says.
        colors: of the classes in the same order, then those that stand for no class.
        offset: the first class's value in the masks.
        notes: what was passed over, a sentence each.
    """

    pairs: dict[str | None, list[tuple[str, str]]]
    class_names: tuple[str, ...] | None = None
    colors: tuple[tuple[int, int, int], ...] = ()
    offset: int = 0
    notes: tuple[str, ...] = field(default=())


def find_mask_layout(root: Path) -> MaskLayout:
    """Pairs pictures with masks by their names.

    Known are `images` beside `masks`, under these and other usual names, with splits in them or
    around them; PASCAL VOC's development kit; and ADE20K's scene parsing challenge.

    Raises:
        ValueError: for a folder of another kind, or a table that cannot be read.
    """
    if (root / "SegmentationClass").is_dir() and (root / "JPEGImages").is_dir():
        return _voc(root)
    folders = visible_folders(root)
    notes: list[str] = []
    splits = {name: path for name, path in folders.items() if split_name(name)}
    around = {name: _two_folders(path) for name, path in splits.items()}
    if around and all(around.values()):
        places = {name.lower(): pair for name, pair in around.items()}
    elif pair := _two_folders(root):
        inner = [visible_folders(path) for path in pair]
        common = [name for name in inner[0] if name in inner[1] and split_name(name)]
        for name in {*inner[0], *inner[1]} - set(common):
            if split_name(name):
                notes.append(f"the split {name!r} is in one of both folders only, and is left out")
        if common:
            places = {name.lower(): (pair[0] / name, pair[1] / name) for name in sorted(common)}
        else:
            places = {None: pair}
    else:
        raise ValueError(
            "A folder is expected with pictures in `images` and a mask for each in `masks`, or "
            "with `train` and `validation` that hold these, or VOC's development kit "
            f"(`VOCdevkit/VOC2012`). Received: folder:{root} with {', '.join(folders) or 'nothing'}"
        )
    pairs = {split: _pairs(root, *place, notes) for split, place in places.items()}
    names, colors = _classes(root)
    offset = 0
    if names is None and (root / "objectInfo150.txt").exists():  # 0 is no class there
        names, offset = ade20k_table().names, 1
    return MaskLayout(pairs, names, colors, offset, tuple(notes))


def _two_folders(path):
    """The folder of pictures and that of masks in a folder; None where they are not there."""
    folders = {name.lower(): folder for name, folder in visible_folders(path).items()}
    found = [
        next((folders[name] for name in names if name in folders), None)
        for names in (PICTURES, MASKS)
    ]
    return tuple(found) if all(found) else None


def _voc(root):
    """VOC's development kit: its lists say what is labelled."""
    names = {path.stem: path.name for path in (root / "JPEGImages").iterdir()}
    pairs = {}
    for split in ("train", "val", "test"):
        listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not listing.exists():
            continue
        stems = listing.read_text(encoding="utf-8").split()
        pairs[split] = [
            (f"JPEGImages/{names.get(stem, stem + '.jpg')}", f"SegmentationClass/{stem}.png")
            for stem in stems
            if (root / "SegmentationClass" / f"{stem}.png").exists()
        ]
    if not pairs.get("train"):
        raise ValueError(
            "VOC's development kit lists its images in `ImageSets/Segmentation/train.txt` and "
            f"`val.txt`. Received: folder:{root} without"
        )
    pairs = {split: found for split, found in pairs.items() if found}
    return MaskLayout(pairs, voc_table().names, voc_table().colors)


def _pairs(root, pictures, masks, notes):
    """Pictures with masks, in the order of their names; what is alone is noted."""
    found = _files(pictures, (*SUFFIXES, *HEIF_SUFFIXES))
    of_mask = {}
    for name in _files(masks, MASK_SUFFIXES):
        of_mask[Path(name).with_suffix("").as_posix()] = name
    pairs, alone, used = [], [], set()
    for name in found:
        stem = Path(name).with_suffix("").as_posix()
        mask = next((stem + ending for ending in MASK_ENDINGS if stem + ending in of_mask), None)
        if mask is None:
            alone.append(name)
            continue
        if mask in used:
            raise ValueError(
                "One picture for each mask is expected. Received: folder:"
                f"{pictures} with two of the name {stem!r}"
            )
        used.add(mask)
        pairs.append(
            (
                (pictures / name).relative_to(root).as_posix(),
                (masks / of_mask[mask]).relative_to(root).as_posix(),
            )
        )
    for what, names in (
        ("pictures have no mask", alone),
        ("masks have no picture", [of_mask[stem] for stem in sorted(set(of_mask) - used)]),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            notes.append(f"{len(names)} {what}, and are left out: {', '.join(names[:5])}{more}")
    return pairs


def _files(folder, suffixes):
    """Names of the files of a folder and of those in it, in order."""
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_ignored(name)]
        names += [
            Path(place, name).relative_to(folder).as_posix()
            for name in files
            if not is_ignored(name) and Path(name).suffix.lower() in suffixes
        ]
    return sorted(names)


def _classes(root):
    """Names and colors of the classes, of `colors.json`, `colors.txt` or `classes.txt`."""
    for name, read in (("colors.json", _read_json), ("colors.txt", _read_text)):
        if (root / name).exists():
            table = read(root / name)
            names = tuple(key for key in table if key.lower() not in IGNORED_NAMES)
            ignored = [table[key] for key in table if key.lower() in IGNORED_NAMES]
            colors = (*(table[key] for key in names), *ignored)
            if len(names) < 2 or len(set(colors)) < len(colors):
                raise ValueError(
                    "A table of two classes or more is expected, each with a color of its own. "
                    f"Received: {root / name} with {table}"
                )
            return names, colors
    if (root / "classes.txt").exists():
        lines = (root / "classes.txt").read_text(encoding="utf-8").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                "A name in each line, two or more, is expected. "
                f"Received: {root / 'classes.txt'} with {names}"
            )
        return names, ()
    return None, ()


def _read_json(path):
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _color(color) for name, color in table.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            'A table such as {"sky": [0, 128, 255]} is expected, three numbers from 0 to 255 each. '
            f"Received: {path} ({error})"
        ) from error


def _read_text(path):
    table = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = re.fullmatch(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+?)\s*", line)
        try:
            table[found[4]] = _color([int(found[place]) for place in (1, 2, 3)])
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Lines such as `0 128 255 sky` are expected. "
                f"Received: {path}, line {number}: {line!r}"
            ) from error
    return table


def _color(values):
    red, green, blue = (int(value) for value in values)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError(f"{values} is no color")
    return red, green, blue
