"""Folders of pictures with boxes, as people have them, and what is wrong with them."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_hybrid.image_files import decode_image
from keras_hybrid.training.data.detection.annotated_images import turned
from keras_hybrid.training.data.detection.folder import read_detection_folder

SIZE = (40, 60)  # height, width
RED = (255, 0, 0)


def picture(path, orientation=1, box=(10, 5, 30, 20)):
    """A grey picture with a red box, as it is stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*SIZE, 3), 90, "uint8")
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = RED
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, quality=100, subsampling=0, exif=exif)


def red_box(path):
    """Where the red box is in the picture as it is shown."""
    red = decode_image(path).astype(int) @ [1, -1, 0] > 90
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    return [int(x) for x in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


def coco(path, entries, categories=("cat", "dog"), size=SIZE, **fields):
    """A JSON file: entries are (picture, box, category)."""
    files = list(dict.fromkeys(file for file, *_ in entries))
    content = {
        "images": [
            {"id": 7 + i, "file_name": file, "height": size[0], "width": size[1]}
            for i, file in enumerate(files)
        ],
        "categories": [{"id": 3 * i + 1, "name": name} for i, name in enumerate(categories)],
        "annotations": [
            {
                "id": i,
                "image_id": 7 + files.index(file),
                "category_id": 3 * label + 1,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                **fields,
            }
            for i, (file, box, label) in enumerate(entries)
            if box is not None
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def voc(path, file, box, name="cat", size=SIZE):
    x1, y1, x2, y2 = box
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><filename>{file}</filename><size><width>{size[1]}</width>"
        f"<height>{size[0]}</height><depth>3</depth></size><object><name>{name}</name><bndbox>"
        f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        "</object></annotation>"
    )


BOX = (10, 5, 30, 20)


def make_coco(root):
    for split in ("train", "val"):
        picture(root / f"{split}2017" / f"{split}.jpg")
        coco(root / "annotations" / f"instances_{split}2017.json", [(f"{split}.jpg", BOX, 1)])
    return ("cat", "dog"), 1


def make_roboflow(root):
    for split in ("train", "valid"):
        picture(root / split / "a.jpg")
        coco(root / split / "_annotations.coco.json", [("a.jpg", BOX, 0)])
    return ("cat", "dog"), 0


def make_voc(root):
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("train", "val"):
        picture(root / "JPEGImages" / f"{split}.jpg")
        voc(root / "Annotations" / f"{split}.xml", f"{split}.jpg", BOX)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}\n")
    return ("cat",), 0


def make_yolo(root):
    for split in ("train", "val"):
        picture(root / "images" / split / "a.jpg")
        labels = root / "labels" / split / "a.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text(f"1 {20 / 60} {12.5 / 40} {20 / 60} {15 / 40}\n")
    (root / "data.yaml").write_text("train: images/train\nnames:\n  0: cat\n  1: 'dog'\nnc: 2\n")
    return ("cat", "dog"), 1


def make_yolo_beside(root):
    for split in ("train", "valid"):
        for name in ("a", "b"):
            picture(root / split / f"{name}.jpg")
            (root / split / f"{name}.txt").write_text("0 0.333333 0.3125 0.333333 0.375")
    (root / "classes.txt").write_text("cat\n")
    return ("cat",), 0


@pytest.mark.parametrize(
    "make, name",
    [
        (make_coco, "COCO JSON"),
        (make_roboflow, "COCO JSON"),
        (make_voc, "Pascal VOC XML"),
        (make_yolo, "YOLO text"),
        (make_yolo_beside, "YOLO text"),
    ],
)
def test_formats_are_recognized(make, name, tmp_path, recwarn):
    names, label = make(tmp_path)
    folder = read_detection_folder(tmp_path)
    assert folder.format == name and folder.class_names == names
    assert set(folder.splits) == {"train", "validation"}
    for images in folder.splits.values():
        for image in images:
            assert image.size == SIZE and image.path.is_file()
            np.testing.assert_allclose(image.objects.boxes, [BOX], atol=1e-3)
            assert image.objects.labels.tolist() == [label]
    assert not recwarn.list and not folder.notes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_their_pictures(orientation, tmp_path):
    """The annotations are of the picture as it lies in the file: its size says so, or EXIF does."""
    file = tmp_path / "train" / "a.png"
    picture(file, orientation)
    expected = red_box(file)
    np.testing.assert_array_equal(turned(np.array([BOX]), SIZE, orientation)[0], expected)
    if orientation in (5, 6, 7, 8):
        coco(tmp_path / "train.json", [("a.png", BOX, 0)])
        with pytest.warns(UserWarning, match="1 pictures lie on their side.*a.png"):
            folder = read_detection_folder(tmp_path)
        ((image,),) = folder.splits.values()
        assert image.size == SIZE[::-1] and image.objects.boxes.tolist() == [expected]
        # Drawn on what is shown: the size is the other one, and nothing is turned.
        coco(tmp_path / "train.json", [("a.png", expected, 0)], size=SIZE[::-1])
        ((image,),) = read_detection_folder(tmp_path).splits.values()
        assert image.objects.boxes.tolist() == [expected]


def test_problems_are_named(tmp_path):
    entries = [
        ("a.png", BOX, 0),
        ("a.png", (50, 30, 70, 45), 1),  # reaches out
        ("a.png", (60, 50, 90, 80), 1),  # outside
        ("a.png", (5, 5, 5, 9), 1),  # no area
        ("b.png", None, 0),
        ("gone.png", BOX, 0),
        ("broken.png", BOX, 0),
    ]
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    coco(tmp_path / "train.json", entries, area=12.5, iscrowd=0)
    picture(tmp_path / "val" / "c.png")
    coco(tmp_path / "val.json", [("c.png", BOX, 0)], iscrowd=1)
    with pytest.warns(UserWarning) as caught:
        folder = read_detection_folder(tmp_path)
    text = str(caught[0].message)
    for note in (
        "1 boxes reach out of the picture, and are cut off, in: a.png",
        "1 boxes are outside of the picture, and are left out, in: a.png",
        "1 boxes have no area, and are left out, in: a.png",
        "1 pictures of train have no boxes: b.png",
        "1 pictures that annotations name are missing, and are left out: gone.png",
        "1 pictures cannot be read, and are left out: broken.png",
    ):
        assert note in text
    first, second = folder.splits["train"]
    assert first.objects.boxes.tolist() == [list(BOX), [50, 30, 60, 40]]
    assert first.objects.areas.tolist() == [12.5, 12.5] and len(second.objects) == 0
    assert folder.splits["validation"][0].objects.crowd.tolist() == [True]


def unknown_class(root):
    picture(root / "a.png")
    coco(root / "train.json", [("a.png", BOX, 5)])


def class_of_validation_only(root):
    for split in ("train", "val"):
        picture(root / split / "a.png")
        voc(root / split / "a.xml", "a.png", BOX, name=split)


def class_beyond_names(root):
    make_yolo_beside(root)
    (root / "train" / "a.txt").write_text("1 0.5 0.5 0.1 0.1")


def no_numbers(root):
    make_yolo_beside(root)
    (root / "train" / "a.txt").write_text("0 0.5 half 0.1 0.1")


def no_names(root):
    make_yolo_beside(root)
    (root / "classes.txt").unlink()


def two_formats(root):
    make_coco(root)
    make_voc(root)


def other_size(root):
    picture(root / "a.png")
    coco(root / "train.json", [("a.png", BOX, 0)], size=(400, 600))


def no_fields(root):
    picture(root / "a.png")
    text = {"images": [{"id": 1}], "annotations": [{"id": 1}], "categories": []}
    (root / "train.json").write_text(json.dumps(text))


def no_boxes(root):
    picture(root / "a.png")
    coco(root / "train.json", [("a.png", None, 0)])


@pytest.mark.parametrize(
    "make, message",
    [
        (unknown_class, r"classes \[16\]"),
        (class_of_validation_only, "a box of 'val'"),
        (class_beyond_names, "line 1, with class 1"),
        (no_numbers, "half"),
        (no_names, "data.yaml or classes.txt"),
        (two_formats, "COCO JSON.*Pascal VOC XML"),
        (other_size, "not of the size"),
        (no_fields, "without 'image_id'"),
        (no_boxes, "Pictures with boxes are expected"),
        (lambda root: None, "none of them"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_detection_folder(tmp_path)


def test_without_splits_a_fifth_is_kept_apart(tmp_path):
    entries = []
    for index in range(10):
        picture(tmp_path / f"{index}.png")
        entries.append((f"{index}.png", BOX, 0))
    coco(tmp_path / "labels.json", entries)
    folder = read_detection_folder(tmp_path)
    assert {split: len(images) for split, images in folder.splits.items()} == {
        "train": 8,
        "validation": 2,
    }


def test_lists_of_names_in_yaml(tmp_path):
    from keras_hybrid.training.data.detection.yolo import class_names

    for text in ("names: [cat, 'hot dog']", "nc: 2\nnames:\n- cat\n- hot dog # yes\npath: x"):
        (tmp_path / "data.yaml").write_text(text)
        assert class_names(tmp_path) == ("cat", "hot dog")
