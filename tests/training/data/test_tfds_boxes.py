"""Detection sets of TFDS, prepared by its own builders: COCO's masks, EXIF, and what is none."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_hybrid.image_files import decode_image
from keras_hybrid.training.data.detection.detection_source import objects_of, with_objects
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.data.segmentation.segmentation_sources import open_segmentation_source

NUM_THINGS, NUM_CLASSES = 80, 133
HEIGHT, WIDTH = 40, 60  # of pictures as they are stored
# Left, top, right, bottom; category, from 0; crowd. The last lies in front of those before it.
SEGMENTS = (
    ((0, 0, 60, 40), 100, False),  # stuff
    ((5, 10, 25, 30), 3, False),
    ((20, 15, 50, 38), 79, False),
    ((40, 2, 58, 12), 3, True),
)
ORIENTATIONS = range(1, 9)  # EXIF's, of the pictures


def number(place):
    return 1 + 300 * place + 70000 * (place % 2)  # of all three colors


def write_coco(root, split):
    """COCO's panoptic files of a split; pictures show each segment in a grey of its own."""
    folder = root / split
    folder.mkdir(parents=True)
    (root / "annotations" / f"panoptic_{split}").mkdir(parents=True)
    images, annotations = [], []
    for orientation in ORIENTATIONS:
        grey, numbers = np.zeros((HEIGHT, WIDTH), "uint8"), np.zeros((HEIGHT, WIDTH), int)
        for place, ((x1, y1, x2, y2), _, _) in enumerate(SEGMENTS):
            grey[y1:y2, x1:x2], numbers[y1:y2, x1:x2] = 50 * (place + 1), number(place)
        exif = Image.Exif()
        exif[0x0112] = orientation
        name = f"{orientation:012d}"
        picture = Image.fromarray(np.stack([grey] * 3, -1))
        picture.save(folder / f"{name}.jpg", exif=exif, quality=95)
        colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1)
        Image.fromarray(colors.astype("uint8")).save(
            root / "annotations" / f"panoptic_{split}" / f"{name}.png"
        )
        size = {"height": HEIGHT, "width": WIDTH}
        images.append({"id": orientation, "file_name": f"{name}.jpg", **size})
        boxes = [((x1, y1, x2 - x1, y2 - y1), c, crowd) for (x1, y1, x2, y2), c, crowd in SEGMENTS]
        annotations.append(
            {
                "image_id": orientation,
                "file_name": f"{name}.png",
                "segments_info": [
                    {"id": number(place), "category_id": category + 1, "iscrowd": int(crowd),
                     "bbox": box, "area": int((numbers == number(place)).sum())}
                    for place, (box, category, crowd) in enumerate(boxes)
                ],
            }
        )  # fmt: skip
    categories = [
        {"id": n + 1, "name": f"class {n}", "isthing": int(n < NUM_THINGS), "supercategory": "all"}
        for n in range(NUM_CLASSES)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def coco(tmp_path_factory, require):
    """TFDS' folder of prepared sets, with coco/2017_panoptic of its own builder."""
    require(module="tensorflow_datasets")
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("coco")
    for split in ("train2017", "val2017"):
        write_coco(root / "files", split)
    with pytest.MonkeyPatch.context() as patch:
        manager = tfds.download.DownloadManager
        patch.setattr(
            manager,
            "download_and_extract",
            lambda self, urls: {key: str(root / "files") for key in urls},
        )
        patch.setattr(manager, "extract", lambda self, path: str(root / "files" / "annotations"))
        tfds.builder("coco/2017_panoptic", data_dir=str(root / "sets")).download_and_prepare()
    return str(root / "sets")


def test_things_of_panoptic_coco_are_objects_with_masks_as_pictures_are_shown(coco):
    source = open_detection_source("coco/2017_panoptic", coco, masks=True)
    assert len(source.class_names) == NUM_THINGS and source.sizes == {"train": 8, "validation": 8}
    assert any("do not overlap" in note for note in source.notes)
    seen = set()
    for example in source.split("validation").as_numpy_iterator():
        image = decode_image(example["image"])
        seen.add(image.shape[:2])
        objects = objects_of(example, *image.shape[:2])
        assert objects.labels.tolist() == [3, 79, 3] and objects.crowd.tolist() == [False] * 2 + [
            True
        ]
        assert objects.masks.shape == (3, *image.shape[:2])
        for place, (mask, box) in enumerate(zip(objects.masks, objects.boxes, strict=True)):
            greys = image[mask].mean(-1)
            assert abs(np.median(greys) - 50 * (place + 2)) < 3 and greys.std() < 10
            rows, columns = np.nonzero(mask)
            hull = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            if place:  # of the first a part is hidden; its box is whole
                np.testing.assert_allclose(box, hull, atol=1e-3)
        assert objects.areas[0] == objects.masks[0].sum() < 400
    assert seen == {(HEIGHT, WIDTH), (WIDTH, HEIGHT)}
    assert source.upright("train").sum() == 4
    assert with_objects(source).counts("train").tolist() == [2] * 8  # crowds aside


def test_boxes_alone_are_read_without_masks(coco):
    source = open_detection_source("coco/2017_panoptic", coco)
    example = next(source.split("train").as_numpy_iterator())
    assert "masks" not in example and example["boxes"].shape == (3, 4) and not source.notes


def test_classes_of_pixels_lie_on_pictures_as_they_are_shown(coco):
    source = open_segmentation_source("coco/2017_panoptic", coco)
    greys = {50 * (place + 1): category for place, (_, category, _) in enumerate(SEGMENTS)}
    for example in source.split("validation").as_numpy_iterator():
        image = decode_image(example["image"])[..., 0]
        nearest = np.round(image / 50).astype(int) * 50
        expected = np.vectorize(greys.get)(nearest.clip(50, 200))
        found = source.decode_mask(example).numpy()
        assert found.shape == image.shape and (found == expected).mean() > 0.95  # edges of JPEG


def test_pictures_of_objects_are_masks_by_either_name(tmp_path, require):
    require(module="tensorflow_datasets")
    import tensorflow_datasets as tfds

    class Segmented(tfds.core.GeneratorBasedBuilder):  # as LVIS has its masks
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            inner = {
                "bbox": tfds.features.BBoxFeature(),
                "label": tfds.features.ClassLabel(num_classes=2),
                "segmentation": tfds.features.Image(shape=(None, None, 1)),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="jpeg"),
                        "objects": tfds.features.Sequence(inner),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for count in range(5):
                objects = []
                for place in range(count):
                    mask = np.zeros((20, 30, 1), "uint8")
                    mask[4:10, 3 * place : 3 * place + 6] = 255
                    box = tfds.features.BBox(0.2, place * 0.1, 0.5, place * 0.1 + 0.2)
                    objects.append({"bbox": box, "label": place % 2, "segmentation": mask})
                yield count, {"image": np.full((20, 30, 3), 9, "uint8"), "objects": objects}

    source = open_detection_source("segmented", str(tmp_path), masks=True)
    assert source.sizes == {"train": 4, "validation": 1}
    assert source.class_names == ("0", "1")  # TFDS has no names of them
    found = {}
    for split in source.sizes:
        for example in source.split(split).as_numpy_iterator():
            found[len(example["labels"])] = objects_of(example, 20, 30)
    assert sorted(found) == [0, 1, 2, 3, 4] and found[0].masks.shape == (0, 20, 30)
    assert found[4].masks[3, 4:10, 9:15].all() and found[4].masks[3].sum() == 36
    np.testing.assert_allclose(found[2].boxes[1], [3, 4, 9, 10], atol=1e-5)


def test_what_is_no_detection_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="objects"):
        open_detection_source("mnist", str(tmp_path))
    with pytest.raises(ValueError, match="TFDS does not know"):
        open_detection_source("no_such_set", str(tmp_path))
    with pytest.raises(ValueError, match="coco/2017_panoptic has masks"):
        open_detection_source("coco/2017", str(tmp_path), masks=True)
    assert not list(tmp_path.iterdir())  # told before anything is downloaded
