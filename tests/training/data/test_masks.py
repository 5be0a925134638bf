"""Folders of pictures and masks, as people have them: read alike, problems named; TFDS' sets."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from keras_hybrid.image_files import decode_tensor
from keras_hybrid.training.data.segmentation import segmentation_sources
from keras_hybrid.training.data.segmentation.mask_files import read_mask, turned
from keras_hybrid.training.data.segmentation.segmentation_sources import open_segmentation_source

COLORS = {"sky": [0, 128, 255], "ground": [90, 60, 30], "ignore": [0, 0, 0]}


def draw(classes, colors=None, height=12, width=16):
    """A mask: the class of the left half and that of the right one; 255 in a corner."""
    values = np.full((height, width), classes[0], "uint8")
    values[:, width // 2 :] = classes[1]
    if colors is not None:
        return Image.fromarray(np.asarray(colors, "uint8")[values])
    values[0, 0] = 255
    return Image.fromarray(values)


@pytest.fixture
def folder(tmp_path):
    """Ten JPEG pictures with grey masks of the classes 0 to 2."""
    root = tmp_path / "set"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(10):
        pixels = np.random.default_rng(index).integers(0, 255, (12, 16, 3)).astype("uint8")
        Image.fromarray(pixels).save(root / "images" / f"{index}.jpg")
        draw((index % 2, 2)).save(root / "masks" / f"{index}.png")
    return root


def opened(folder, tmp_path):
    return open_segmentation_source(f"folder:{folder}", str(tmp_path / "cache"))


def masks_of(source, split):
    examples = source.split(split)
    return list(examples.map(source.decode_mask).as_numpy_iterator())


def test_pictures_and_masks_are_paired_by_name(folder, tmp_path):
    source = opened(folder, tmp_path)
    assert source.sizes == {"train": 8, "validation": 2} and source.class_names == ("0", "1", "2")
    assert source.image_size == (12, 16) and source.notes == ()
    found = []
    for split in source.sizes:
        for example in source.split(split):
            mask = source.decode_mask(example).numpy()
            image = decode_tensor(example["image"]).numpy()
            content = example["image"].numpy()
            (index,) = (
                i for i in range(10) if (folder / "images" / f"{i}.jpg").read_bytes() == content
            )
            assert image.shape[:2] == mask.shape and mask[0, 0] == 255
            assert mask[5, 2] == index % 2 and mask[5, 12] == 2
            found.append(index)
    assert sorted(found) == list(range(10))
    again = opened(folder, tmp_path)  # of what was kept
    assert again.sizes == source.sizes and again.class_names == source.class_names


@pytest.mark.parametrize("kind", ["palette", "rgb", "rgb_of_grey", "16_bits"])
def test_masks_of_every_kind_are_the_same_classes(folder, tmp_path, kind):
    for index in range(10):
        path = folder / "masks" / f"{index}.png"
        grey = Image.open(path)
        values = np.asarray(grey)
        if kind == "palette":
            palette = Image.fromarray(values, "P")
            palette.putpalette([7, 9, 11] * 256)
            palette.save(path)
        elif kind == "rgb_of_grey":
            Image.fromarray(np.repeat(values[..., None], 3, -1)).save(path)
        elif kind == "16_bits":
            Image.fromarray(values.astype("uint16")).save(path)
        else:
            table = np.zeros((256, 3), "uint8")
            table[0], table[1], table[2], table[255] = (5, 0, 0), (0, 6, 0), (0, 0, 7), (9, 9, 1)
            Image.fromarray(table[values]).save(path)
    if kind == "rgb":
        table = {"a": [5, 0, 0], "b": [0, 6, 0], "c": [0, 0, 7], "void": [9, 9, 1]}
        (folder / "colors.json").write_text(json.dumps(table))
    source = opened(folder, tmp_path)
    assert source.class_names == (("a", "b", "c") if kind == "rgb" else ("0", "1", "2"))
    for mask in masks_of(source, "train"):
        assert mask[0, 0] == 255 and mask[5, 12] == 2 and mask[5, 2] in (0, 1)


def test_a_table_of_lines_and_names_of_classes(folder, tmp_path):
    (folder / "classes.txt").write_text("cat\ndog\nrest\n\n")
    assert opened(folder, tmp_path).class_names == ("cat", "dog", "rest")
    (folder / "colors.txt").write_text(
        "# red green blue name\n0 1 2 big cat\n3,4,5 dog\n6 7 8 void\n"
    )
    (folder / "classes.txt").unlink()
    with pytest.raises(ValueError, match="it holds 2, and there are 2 classes"):
        opened(folder, tmp_path)  # grey masks hold a third class, which the table does not have
    draw((0, 1), [(0, 1, 2), (3, 4, 5)]).save(folder / "masks" / "0.png")
    for index in range(1, 10):
        draw((1, 0)).save(folder / "masks" / f"{index}.png")
    assert opened(folder, tmp_path).class_names == ("big cat", "dog")


@pytest.mark.parametrize("where", ["around", "inside"])
def test_splits_stay_as_they_are(folder, tmp_path, where):
    for index in range(10):
        split = "train" if index < 7 else "val"
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            place = (split, kind) if where == "around" else (kind, split)
            target = folder.joinpath(*place)
            target.mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{index}.{ending}").rename(target / f"{index}.{ending}")
    if where == "around":
        for kind in ("images", "masks"):
            (folder / kind).rmdir()
    assert opened(folder, tmp_path).sizes == {"train": 7, "val": 3}


def test_vocs_development_kit_is_read_by_its_lists(tmp_path):
    root = tmp_path / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for index in range(4):
        Image.new("RGB", (16, 12)).save(root / "JPEGImages" / f"2007_{index}.jpg")
        if index < 3:
            draw((0, 20)).save(root / "SegmentationClass" / f"2007_{index}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_2\n2007_0\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_1\n")
    with pytest.warns(UserWarning, match="no mask holds aeroplane"):
        source = opened(root, tmp_path)
    assert source.sizes == {"train": 2, "val": 1} and len(source.class_names) == 21
    assert source.class_names[20] == "tv monitor"


def test_ade20ks_zero_is_no_class(folder, tmp_path):
    (folder / "objectInfo150.txt").write_text("")
    with pytest.warns(UserWarning):
        source = opened(folder, tmp_path)
    assert len(source.class_names) == 150 and source.class_names[0] == "wall"
    held = {int(value) for mask in masks_of(source, "train") for value in np.unique(mask)}
    assert held == {0, 1, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_are_pillows(orientation):
    from PIL import ImageOps

    values = np.arange(12, dtype="uint8").reshape(3, 4)
    image = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    content = io.BytesIO()
    image.save(content, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(content)))
    np.testing.assert_array_equal(turned(values, orientation), upright)
    np.testing.assert_array_equal(read_mask(content.getvalue()), upright)


@pytest.mark.parametrize("drawn_on", ["file", "view"])
def test_a_mask_turns_with_its_picture(folder, tmp_path, drawn_on):
    """A phone's portrait lies on its side in the file: the mask is of either, by its size."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    for index in range(10):
        values = np.asarray(Image.open(folder / "masks" / f"{index}.png"))
        picture = np.repeat((values == 2)[..., None], 3, -1).astype("uint8") * 255
        Image.fromarray(picture).save(
            folder / "images" / f"{index}.jpg", exif=exif, quality=100, subsampling=0
        )
        if drawn_on == "view":
            Image.fromarray(turned(values, 6)).save(folder / "masks" / f"{index}.png")
    source = opened(folder, tmp_path)
    assert source.image_size == (16, 12)
    for example in source.split("train"):
        image, mask = decode_tensor(example["image"]).numpy(), source.decode_mask(example).numpy()
        assert mask.shape == (16, 12)
        np.testing.assert_array_equal(image[..., 0] > 127, mask == 2)


def spoil(folder, what):
    """Does one thing wrong to the picture or mask number 3."""
    picture, mask = folder / "images" / "3.jpg", folder / "masks" / "3.png"
    if what == "size":
        draw((0, 2), height=13).save(mask)
    elif what == "beyond":
        (folder / "classes.txt").write_text("a\nb\nc\n")
        draw((0, 7)).save(mask)
    elif what == "rgb":
        draw((0, 1), [(1, 2, 3), (4, 5, 6)]).save(mask)
    elif what == "color":
        (folder / "colors.json").write_text(json.dumps(COLORS))
        for path in (folder / "masks").iterdir():
            draw((0, 1), list(COLORS.values())).save(path)
        draw((0, 1), [(0, 128, 255), (4, 5, 6)]).save(mask)
    elif what == "one":
        for path in (folder / "masks").iterdir():
            draw((1, 1)).save(path)
    elif what == "fraction":
        Image.fromarray(np.zeros((12, 16), "float32")).save(mask.with_suffix(".tif"))
        mask.unlink()
    elif what == "broken":
        mask.write_bytes(b"no image")
    elif what == "table":
        (folder / "colors.json").write_text('{"sky": [0, 300, 1]}')
    elif what == "nothing":
        for path in (folder / "masks").iterdir():
            path.unlink()
    elif what == "two":
        picture.with_suffix(".png").write_bytes(picture.read_bytes())
    elif what == "ignored":
        Image.new("L", (16, 12), 255).save(mask)
    elif what == "point":
        Image.new("RGB", (1, 1)).save(picture)
        Image.new("L", (1, 1), 1).save(mask)
    elif what == "missing":
        mask.unlink()
    elif what == "alone":
        picture.unlink()
    elif what == "picture":
        picture.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("size", r"masks/3.png: it is 16 x 13 px, its picture 16 x 12 px"),
        ("beyond", r"masks/3.png: it holds 7, and there are 3 classes, from 0 on"),
        ("rgb", r"masks/3.png: it is a picture of colors: put a table `colors.json`"),
        ("color", r"masks/3.png: it holds colors that the table lacks: \[4, 5, 6\]"),
        ("one", "whose masks hold one class alone: 1"),
        ("fraction", "masks/3.tif: its values are fractions"),
        ("broken", "masks/3.png: it is no image that can be read"),
        ("table", "three numbers from 0 to 255"),
        ("nothing", "Pictures and masks of the same name"),
        ("two", "One picture for each mask"),
    ],
)
def test_what_would_train_wrongly_is_refused_by_name(folder, tmp_path, what, message):
    spoil(folder, what)
    with pytest.raises(ValueError, match=message):
        opened(folder, tmp_path)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("ignored", "1 of 10 pictures have no labelled pixel, and are left out: images/3.jpg"),
        ("point", "1 of 10 pictures are less than 8 px high or wide, and are left out: images/3"),
        ("missing", "1 pictures have no mask, and are left out: 3.jpg"),
        ("alone", "1 masks have no picture, and are left out: 3.png"),
        ("picture", "1 of 10 pictures cannot be read, and are left out: images/3.jpg"),
    ],
)
def test_what_is_of_no_use_is_left_out_by_name(folder, tmp_path, what, message):
    opened(folder, tmp_path)  # a problem that comes later is seen, too
    spoil(folder, what)
    with pytest.warns(UserWarning, match=message):
        source = opened(folder, tmp_path)
    assert sum(source.sizes.values()) == 9


def test_other_folders_and_sets_are_refused_with_what_is_known(tmp_path):
    with pytest.raises(ValueError, match="pictures in `images` and a mask for each in `masks`"):
        opened(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="no folder of that name"):
        opened(tmp_path / "nowhere", tmp_path)


def test_sets_of_tfds_without_masks_are_refused_with_the_cure(require):
    require(module="tensorflow_datasets")
    with pytest.raises(ValueError, match="VOCdevkit/VOC2012"):
        open_segmentation_source("voc/2012")
    with pytest.raises(ValueError, match="coco/2017_panoptic"):
        open_segmentation_source("coco/2017")
    with pytest.raises(ValueError, match="digit_scenes.*Received: data='cifar10'"):
        open_segmentation_source("cifar10")
    assert segmentation_sources.FOLDER_PREFIX == "folder:"


def test_a_panoptic_image_becomes_classes():
    from keras_hybrid.training.data.panoptic import panoptic_classes

    colors = np.zeros((2, 2, 3), "uint8")
    colors[0, 0] = (5, 1, 0)  # 5 + 256
    colors[0, 1] = (7, 0, 2)  # 7 + 2 * 65536
    found = panoptic_classes(colors, [7 + 2 * 65536, 261], [90, 3]).numpy()
    np.testing.assert_array_equal(found, [[3, 90], [255, 255]])
    np.testing.assert_array_equal(panoptic_classes(colors, [], []), np.full((2, 2), 255))


def test_scenes_of_digits_come_from_tfds(tmp_path, require, monkeypatch):
    require(module="tensorflow_datasets")
    require(module="sklearn")
    from keras_hybrid.training.data.digit_scenes import digit_scenes_dataset_builder as module
    from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes

    monkeypatch.setattr(module, "COUNTS", {"train": 3, "test": 2})
    source = open_segmentation_source("digit_scenes", str(tmp_path))
    assert source.sizes == {"train": 3, "test": 2} and source.image_size == (128, 128)
    assert source.class_names == ("background", *"0123456789")
    expected = {scene.image.tobytes(): scene.mask for scene in digit_scenes(3)}
    for example in source.split("train"):
        image = decode_tensor(example["image"]).numpy()
        np.testing.assert_array_equal(source.decode_mask(example), expected[image.tobytes()])
