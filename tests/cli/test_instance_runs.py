"""A Mask R-CNN's run in the command's hands: predict, evaluate, convert to one file or three."""

import json
import re

import keras
import numpy as np
import pytest
from finished_runs import resized_pictures, write_run
from harness import randomise
from PIL import Image
from small_detection import INSTANCE_RECIPE, small_trunk

import keras_hybrid
from keras_hybrid.tasks.detection.matching import overlaps
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes
from keras_hybrid.training.run.run_folder import load_run
from keras_hybrid.workflows.answers.detector import is_detector_name, open_detector
from keras_hybrid.workflows.reports.detection_report import write_detection_report

NAMES = tuple("0123456789")
pytestmark = pytest.mark.large


def write_scenes(folder, count=3):
    """Scenes of digits in COCO's JSON, masks as run lengths."""
    from pycocotools.mask import encode

    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for number, scene in enumerate(digit_scenes(count, 64)):
            Image.fromarray(scene.image).save(folder / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 64})
            for box, label, mask in zip(scene.boxes, scene.labels, scene.instances, strict=True):
                x1, y1, x2, y2 = map(float, box)
                runs = encode(np.asfortranarray(mask, "uint8"))
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": number,
                        "category_id": int(label),
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "segmentation": {"size": [64, 64], "counts": runs["counts"].decode()},
                    }
                )
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
        }
        (folder / split / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory, require):
    """A finished run on scenes, its weights as chance had them."""
    require(module="sklearn")
    folder = tmp_path_factory.mktemp("instances")
    data = write_scenes(folder / "scenes")
    keras.utils.set_random_seed(0)
    model = randomise(
        keras_hybrid.mask_rcnn(small_trunk((64, 64)), len(NAMES), **INSTANCE_RECIPE.head_options)
    )
    random = np.random.default_rng(0)
    for name, deviation in (("rpn_logits", 0.3), ("rpn_offsets", 0.1), ("box_logits", 0.5)):
        kernel = model.get_layer(f"head_{name}").kernel
        kernel.assign(random.normal(0, deviation, kernel.shape))
    row = {"loss": 2.0, "val_loss": 3.0, "val_ap": 0.1, "val_ap50": 0.2, "val_mask_ap": 0.1}
    return write_run(folder, model, INSTANCE_RECIPE, data, NAMES, [row, row], task="instances")


@pytest.fixture(scope="module")
def pictures(folder):
    return resized_pictures(folder, folder / "scenes/train")


def test_files_give_the_objects_of_the_network(folder, pictures, command, tmp_path):
    model = keras.models.load_model(folder / "model.keras", compile=False)
    expected = keras_hybrid.detect(model, pictures, preprocessing="mobilevit")
    assert all(len(found) >= 3 for found in expected)
    status, printed, said = command("convert", folder)
    assert status == 0 and "labels: 10: 0, 1, 2" in printed, said
    status, printed, said = command("convert", folder, "--parts")
    assert status == 0 and "mask_head.tflite" in printed and "labels.txt" in printed, said
    # In one file boxes end at the input's edge, and not at that of a picture that is padded.
    for file, compared in ((folder / "model.tflite", 1), (folder / "parts", 2)):
        assert is_detector_name(str(file))
        detector = open_detector(str(file))
        assert detector.labels == NAMES
        answers = detector.predict(pictures)
        for found, wanted in zip(answers[:compared], expected, strict=False):
            for index in range(2):
                same = wanted.labels == found.labels[index]
                box = found.boxes[index : index + 1]
                overlap = np.where(same, np.asarray(overlaps(box, wanted.boxes))[0], 0)
                assert overlap.max() > 0.9, file
                mask = wanted.masks[overlap.argmax()]
                assert (found.masks[index] != mask).mean() < 0.02
        status, printed, said = command(
            "predict", file, *pictures, f"--save={tmp_path / 'masks.png'}"
        )
        assert status == 0 and re.search(r"png  \d \d+\.\d% at", printed), said
    assert Image.open(tmp_path / "masks.png").size[0] > 500
    rules = folder / "parts" / "rules.json"
    rules.write_text(rules.read_text().replace('"padding"', '"filling"'))
    status, _, said = command("predict", folder / "parts", *pictures)
    assert status == 2 and "without ['padding'], with ['filling'] besides" in said


def test_evaluate_says_average_precision_of_masks(folder, command):
    status, printed, _ = command("evaluate", folder, "--per_class")
    assert status == 0 and re.search(r"3 images: mask AP \d+\.\d+%, AP50 .* boxes AP", printed)
    assert len(printed.splitlines()) == 2 + len(NAMES) and "mask AP" in printed.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "{folder}", "--precision=int8"), "with --parts"),
        (("convert", "MobileViTXXS", "--parts", "--out={folder}/x"), "for a Mask R-CNN"),
        (("convert", "{folder}", "--postprocess=raw"), "for a detector"),
        (("quantize", "{folder}", "--out={folder}/int8", "--recipe=digits"), "Mask R-CNN"),
    ],
)
def test_mistakes_are_told_in_a_sentence(folder, command, arguments, message):
    status, _, said = command(*(x.format(folder=folder) for x in arguments))
    assert status == 2 and message in said and "Traceback" not in said


def test_the_report_shows_masks(folder):
    run = load_run(folder)
    report = write_detection_report(run, open_detection_source(run.data, masks=True))
    page, text = report.path.read_text(), (folder / "report.md").read_text()
    assert report.headline.startswith("masks AP") and "| mask AP |" in text
    assert "average precision of masks" in page
    assert page.count("data:image/jpeg;base64,") == 3
