"""Masks in folders of COCO's JSON: polygons and run lengths, turned pictures, what is wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_hybrid.image_files import decode_image
from keras_hybrid.training.data.detection.annotated_images import turned
from keras_hybrid.training.data.detection.coco_masks import (
    decoded_masks,
    encoded_masks,
    turned_masks,
)
from keras_hybrid.training.data.detection.detection_pipeline import evaluation_pictures
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.data.detection.folder import read_detection_folder

HEIGHT, WIDTH = 24, 40
# An L: the box around it is less than half its own.
POLYGON = [4, 2, 10, 2, 10, 16, 20, 16, 20, 20, 4, 20]
BOX = [4, 2, 16, 18]


def shape():
    mask = np.zeros((HEIGHT, WIDTH), "uint8")
    mask[2:20, 4:10] = mask[16:20, 4:20] = 1
    return mask


def counts(mask):
    """Run lengths by columns, the zeros first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return runs if not flat[0] else [0, *runs]


def rle(mask, compressed=False):
    given = encoded_masks(mask[None])[0].decode() if compressed else counts(mask)
    return {"size": list(mask.shape), "counts": given}


def write(folder, segmentations, orientation=1, size=(HEIGHT, WIDTH), **fields):
    """One picture with the L in red, and objects of these segmentations."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, "uint8")
    pixels[shape() > 0] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / "train").mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "train" / "a.jpg", quality=100, subsampling=0, exif=exif)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}],
        "categories": [{"id": 1, "name": "L"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": BOX, **given, **fields}
            for i, given in enumerate(
                {} if x is None else {"segmentation": x} for x in segmentations
            )
        ],
    }
    (folder / "train" / "instances.json").write_text(json.dumps(content))
    return folder


def red(path):
    return decode_image(path).astype(int) @ [1, -1, 0] > 90


def test_every_form_is_the_same_mask(tmp_path):
    mask = shape()
    forms = [[POLYGON], [POLYGON[:6] + [4, 16], [4, 16, 20, 16, 20, 20, 4, 20]]]
    forms += [rle(mask), rle(mask, compressed=True)]
    folder = write(tmp_path, forms, iscrowd=0)
    source = open_detection_source(f"folder:{folder}", masks=True)
    assert source.has_masks and not source.notes
    ((picture, objects),) = evaluation_pictures(source, "train")
    assert picture.shape == (HEIGHT, WIDTH, 3) and objects.masks.shape == (4, HEIGHT, WIDTH)
    for one in objects.masks:
        np.testing.assert_array_equal(one, mask)
    np.testing.assert_array_equal(red(folder / "train" / "a.jpg"), mask)
    plain = open_detection_source(f"folder:{folder}")
    assert not plain.has_masks and next(evaluation_pictures(plain, "train"))[1].masks is None


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_masks_are_turned_as_their_picture_is_shown(tmp_path, orientation):
    folder = write(tmp_path, [[POLYGON], rle(shape())], orientation)
    if orientation == 3:  # the size does not tell which way up it was drawn: as it is shown
        drawn = shape()
    else:
        with pytest.warns(UserWarning, match="turned along"):
            drawn = red(folder / "train" / "a.jpg")
            ((_, objects),) = evaluation_pictures(
                open_detection_source(f"folder:{folder}", masks=True), "train"
            )
        for one, (x1, y1, x2, y2) in zip(objects.masks, objects.boxes.astype(int), strict=True):
            np.testing.assert_array_equal(one, drawn)
            assert one[y1:y2, x1:x2].sum() == one.sum() > 0
    for number in range(1, 9):
        mask = turned_masks(drawn[None], number)[0]
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], "float64")
        x1, y1, x2, y2 = turned(box, drawn.shape, number)[0].astype(int)
        assert mask[y1:y2, x1:x2].sum() == mask.sum() == drawn.sum()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "1 objects have no mask"),
        ([], "without polygons"),
        ([[4, 2, 10, 2]], "no polygon of three points"),
        ([[4, 2, 10, 2, 10, "x"]], "neither polygons nor run lengths"),
        ([[4, 2, 10, 2, 10]], "neither polygons nor run lengths"),
        ([[4, 2, 10, 2, 10, float("nan")]], "neither polygons nor run lengths"),
        ({"size": [HEIGHT, WIDTH]}, "neither polygons nor run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": "\x00`"}, "neither polygons nor run lengths"),
        ({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, "another size"),
        ({"size": [HEIGHT, WIDTH], "counts": [3, 4]}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": "34"}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 1, -1]}, "do not add up"),
    ],
)
def test_what_is_no_mask_is_named_and_left_out(tmp_path, segmentation, message):
    folder = write(tmp_path, [segmentation, [POLYGON]])
    with pytest.warns(UserWarning, match=message):
        found = read_detection_folder(folder, masks=True)
    (image,) = found.splits["train"]
    assert len(image.objects) == len(image.masks) == 1
    np.testing.assert_array_equal(decoded_masks(image.masks, HEIGHT, WIDTH)[0], shape())


def test_what_is_told_and_stays(tmp_path):
    """A polygon of two points beside a good one, and one that is smaller than a pixel."""
    tiny = [[4.1, 2.1, 4.2, 2.1, 4.2, 2.2]]
    folder = write(tmp_path, [[POLYGON, [4, 2, 10, 2]], tiny])
    with pytest.warns(UserWarning, match=r"1 polygons have fewer.*1 objects' masks are smaller"):
        (image,) = read_detection_folder(folder, masks=True).splits["train"]
    assert len(image.objects) == 2
    assert decoded_masks(image.masks, HEIGHT, WIDTH).sum(axis=(1, 2)).tolist() == [148, 0]


def test_crowds_excuse_with_their_mask(tmp_path):
    folder = write(tmp_path, [[POLYGON], rle(shape())])
    path = folder / "train" / "instances.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    source = open_detection_source(f"folder:{folder}", masks=True)
    ((_, objects),) = evaluation_pictures(source, "train")
    assert objects.crowd.tolist() == [False, True] and objects.masks[1].sum() == 148
    assert source.counts("train").tolist() == [1]


def test_sets_without_masks_are_refused(tmp_path):
    (tmp_path / "classes.txt").write_text("a\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(ValueError, match="COCO JSON.*YOLO text"):
        open_detection_source(f"folder:{tmp_path}", masks=True)
    with pytest.raises(ValueError, match="instances_train2017.json"):
        open_detection_source("coco/2017", str(tmp_path), masks=True)
