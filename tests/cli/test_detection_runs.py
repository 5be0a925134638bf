"""A detector's run in the command's hands: predict, evaluate, convert, quantize, its report."""

import re

import keras
import numpy as np
import pytest
from finished_runs import resized_pictures, write_run
from harness import randomise
from PIL import Image
from small_detection import RECIPE, make_tiny_detector, write_scenes

import keras_hybrid
from keras_hybrid.analysis.detection_mistakes import compare
from keras_hybrid.export.metadata import read_metadata
from keras_hybrid.tasks.detection.matching import overlaps
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.tasks.detection.post_processing import Detections
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.run.run_folder import load_run
from keras_hybrid.workflows.answers.detector import is_detector_name, open_detector
from keras_hybrid.workflows.reports.detection_report import write_detection_report

NAMES = tuple("0123456789")
pytestmark = pytest.mark.large


@pytest.fixture(scope="module")
def folder(tmp_path_factory, require):
    """A finished run on scenes, its weights as chance had them."""
    require(module="sklearn")
    folder = tmp_path_factory.mktemp("detected")
    data = write_scenes(folder / "scenes", count=4)
    keras.utils.set_random_seed(0)
    model = randomise(make_tiny_detector(RECIPE, len(NAMES)))
    row = {"loss": 2.0, "val_loss": 3.0, "val_ap": 0.1, "val_ap50": 0.2}
    return write_run(folder, model, RECIPE, data, NAMES, [row, row], task="detection")


@pytest.fixture(scope="module")
def pictures(folder):
    return resized_pictures(folder, folder / "scenes/images/train")


def test_files_give_the_boxes_of_the_network(folder, pictures, command):
    model = keras.models.load_model(folder / "model.keras", compile=False)
    expected = keras_hybrid.detect(model, pictures, preprocessing="mobilevit")
    status, printed, _ = command("convert", folder)
    assert status == 0 and "labels: 10: 0, 1, 2" in printed
    assert read_metadata(folder / "model.tflite").record["detector"]["postprocess"] == "tflite"
    files = {"tflite": folder / "model.tflite"}
    for kind in ("raw", "decoded"):
        files[kind] = folder / f"{kind}.tflite"
        status, _, said = command(
            "convert", folder, f"--postprocess={kind}", f"--out={files[kind]}"
        )
        assert status == 0, said
    for kind, path in files.items():
        assert is_detector_name(str(path)), kind
        detector = open_detector(str(path))
        assert detector.labels == NAMES
        for found, wanted in zip(detector.predict(pictures), expected, strict=True):
            assert len(found) >= 20
            for index in range(10):
                same = wanted.labels == found.labels[index]
                box = found.boxes[index : index + 1]
                assert np.asarray(overlaps(box, wanted.boxes[same])).max() > 0.99, kind
    outside = keras_hybrid.export_tflite(model, folder / "outside.tflite")
    with pytest.raises(ValueError, match="how its images are normalized"):
        open_detector(str(outside))
    assert not is_detector_name("MobileViTXXS") and is_detector_name("SSDLiteMobileViTXXS/coco")


def test_what_predict_says_and_draws(folder, pictures, command, tmp_path):
    save = tmp_path / "boxes.png"
    status, printed, _ = command("predict", folder, *pictures, "--top=2", f"--save={save}")
    assert status == 0 and Image.open(save).size[0] > 500
    lines = printed.splitlines()[:2]
    assert all(re.search(r"png  \d \d+\.\d% at \d+,\d+,\d+,\d+|nothing", line) for line in lines)
    status, printed, _ = command("predict", folder, pictures[0], "--least_score=1")
    assert status == 0 and printed.split()[-1] == "nothing"


def test_evaluate_says_average_precision(folder, command):
    status, printed, _ = command("evaluate", folder, "--per_class")
    assert status == 0 and re.search(r"4 images: AP \d+\.\d+%, AP50 .* blind to classes", printed)
    assert len(printed.splitlines()) == 2 + len(NAMES)
    status, _, said = command("evaluate", folder, "--least=0.99")
    assert status == 1 and "less than" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "{folder}", "{picture}", "--attention=a.png"), "not for a detector"),
        (("predict", "{folder}", "{picture}", "--least_score=2"), "least_score"),
        (("evaluate", "{folder}", "{folder}/scenes"), "for a classifier"),
        (("evaluate", "{folder}/model.keras", "{folder}/scenes"), "for a classifier"),
        (("convert", "{folder}", "--top_k=3"), "top_k"),
        (("convert", "{folder}", "--postprocess=nms"), "postprocess"),
        (("convert", "MobileViTXXS", "--postprocess=raw", "--out=a.tflite"), "for a detector"),
        (("predict", "{folder}", "{folder}/run.json"), "none of the pictures"),
    ],
)
def test_mistakes_are_told_in_a_sentence(folder, pictures, command, arguments, message):
    arguments = [x.format(folder=folder, picture=pictures[0]) for x in arguments]
    status, _, said = command(*arguments)
    assert status == 2 and message in said and "Traceback" not in said


def test_the_report_shows_mistakes_first(folder):
    run = load_run(folder)
    source = open_detection_source(run.data)
    report = write_detection_report(run, source)
    page, text = report.path.read_text(), (folder / "report.md").read_text()
    assert "AP75" in page and "Precision by recall" in page and "blind to classes" in text
    assert page.count("data:image/jpeg;base64,") == 4 and page.count("<svg") >= 4
    wrong = [len(x.missed) + len(x.false_alarms) for x in report.comparisons]
    order = report.by_mistakes()
    assert [wrong[place] for place in order] == sorted(wrong, reverse=True)
    assert all(f"| {name} |" in text for name in NAMES)


def test_right_and_wrong_detections():
    objects = Objects(
        [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 60, 20]], [0, 1, 0], crowd=[0, 0, 1]
    )
    boxes = [[0, 0, 10, 10], [0, 0, 9, 10], [20, 0, 30, 10], [42, 2, 48, 8], [0, 50, 9, 59]]
    found = Detections(
        np.array(boxes, "float32"),
        np.array([0.9, 0.8, 0.7, 0.6, 0.1], "float32"),
        np.array([0, 0, 0, 0, 0]),
    )
    comparison = compare(found, objects, 0.3)
    assert comparison.right.tolist() == [True, False, False, False, False]
    assert comparison.excused.tolist() == [False, False, False, True, False]
    assert comparison.missed.tolist() == [1] and comparison.false_alarms.tolist() == [1, 2]
    nothing = compare(Detections(found.boxes[:0], found.scores[:0], found.labels[:0]), objects, 0.3)
    assert nothing.missed.tolist() == [0, 1] and not len(nothing.false_alarms)


def test_quantize_makes_int8_of_the_run(folder, command, tmp_path):
    status, printed, said = command(
        "quantize", folder, f"--out={tmp_path / 'int8'}", "--recipe=digits",
        "epochs=1", "calibration_images=4",
    )  # fmt: skip
    assert status == 0, said
    assert re.search(r"\| +AP \|", printed) and "| trained " in printed
    rows = re.findall(r"(float|post-training|trained) .*?(\d+\.\d+)%", printed)
    assert len(rows) == 3
