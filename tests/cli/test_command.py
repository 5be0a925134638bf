"""The command `keras-hybrid`: help at once, quiet, labels that travel, answers."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_hybrid.cli.command import COMMANDS, overview
from keras_hybrid.export.metadata import read_metadata

HELP_SECONDS = 0.3
CLASSES = ("five", "four", "one", "three", "two")


def launch(*arguments, code=None):
    command = ["-c", code] if code else ["-m", "keras_hybrid", *arguments]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)


def test_help_of_a_command_is_had_by_its_name_too(command):
    assert command("help", "predict")[:2] == command("predict", "--help")[:2]


def test_help_answers_at_once():
    """By processor time, so that what else runs on this machine counts little."""
    own = min(processor_seconds("-m", "keras_hybrid", "--help") for _ in range(3))
    bare = min(processor_seconds("-c", "pass") for _ in range(3))
    assert own - bare < HELP_SECONDS
    assert launch("--help").stdout.strip() == overview()


def processor_seconds(*arguments):
    """What a process of Python costs."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(name):
    code = (
        "import sys\nfrom keras_hybrid.cli.command import main\n"
        f"status = main([{name!r}, '--help'])\n"
        "heavy = {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "print('HEAVY', status, sorted(heavy))"
    )
    done = launch(code=code)
    assert done.stdout.strip().endswith("HEAVY 0 []"), done.stdout[-300:] + done.stderr
    assert f"keras-hybrid {name}" in done.stdout
    assert done.stderr == ""


@pytest.mark.large
def test_importing_tensorflow_says_nothing_and_errors_come_through():
    code = (
        "import os, sys\nfrom keras_hybrid.cli import quiet\nquiet.load_tensorflow()\n"
        "os.write(2, b'an error')\nimport tensorflow\nprint(tensorflow.__version__)"
    )
    done = launch(code=code)
    assert done.returncode == 0 and done.stdout.strip()
    assert done.stderr == "an error"


def test_what_a_failing_import_writes_appears(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'I0000 00:00:1 all of it\\nE0000 broken\\n')\n"
        "raise ImportError('no')"
    )
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from keras_hybrid.cli import quiet\nquiet.load_tensorflow()"
    )
    done = launch(code=code)
    assert done.returncode == 1
    assert "I0000 00:00:1 all of it\nE0000 broken\n" in done.stderr
    assert "ImportError: no" in done.stderr


def test_commentary_goes_and_the_rest_stays(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'WARNING: All log messages before absl::InitializeLog() is\\n"
        "I0000 00:00:1 port.cc\\nE0000 00:00:1 real trouble\\n')"
    )
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from keras_hybrid.cli import quiet\nquiet.load_tensorflow()"
    )
    assert launch(code=code).stderr == "E0000 00:00:1 real trouble\n"


def test_models_and_weights_are_listed(command):
    status, models, _ = command("models")
    assert status == 0 and re.search(r"MobileViTXXS +256 px +1.3 M", models)
    status, weights, _ = command("weights", "MobileViTXXS")
    assert status == 0 and "MobileViTXXS/imagenet_apple" in weights
    assert "IFormerT" not in weights


def test_data_says_what_is_in_a_folder(photos, command):
    status, printed, _ = command("data", photos, "--plan", "--weights=none")
    assert status == 0
    rows = [line.split() for line in printed.splitlines()]
    assert ["class", "train", "validation"] in rows and ["all", "30", "10"] in rows
    assert "random weights" in printed and "96 px" in printed


@pytest.fixture(scope="module")
def converted(finished_run):
    """The finished run's `.tflite`, made by the command."""
    from keras_hybrid.cli.command import main

    assert main(["convert", str(finished_run)]) == 0
    return finished_run / "model.tflite"


@pytest.mark.large
def test_labels_travel_into_the_file(converted):
    assert read_metadata(converted).labels == CLASSES
    assert (converted.parent / "labels.txt").read_text().split() == list(CLASSES)


@pytest.mark.large
def test_other_labels_than_the_runs_are_told(finished_run, command, tmp_path):
    names = ["four", "five", *CLASSES[2:]]
    (tmp_path / "labels.txt").write_text("\ufeff" + "\r\n".join(names), "utf-8", newline="")
    labels, out = tmp_path / "labels.txt", tmp_path / "a.tflite"
    status, _, said = command("convert", finished_run, f"--labels={labels}", f"--out={out}")
    assert status == 0
    assert "line 1 is 'four', the run's class 'five'" in said
    assert read_metadata(out).labels == tuple(names)


@pytest.mark.large
def test_run_and_file_say_the_same_of_photos(finished_run, converted, photos, command):
    of_run = command("predict", finished_run, photos, "--top=1")
    of_file = command("predict", converted, photos, "--top=1")
    assert of_run[0] == of_file[0] == 0
    first, second = (
        [line.rsplit("  ", 1)[-1] for line in printed.splitlines()]
        for printed in (of_run[1], of_file[1])
    )
    assert len(first) == 40 and first == second


@pytest.mark.large
def test_predictions_are_those_of_evaluation(finished_run, converted, photos, command):
    """Accuracies of the run's folder, and of the file on the same photos, agree."""
    found = [
        re.search(r"(\d+) images: top-1 ([\d.]+)%", command("evaluate", *arguments)[1]).groups()
        for arguments in (
            (finished_run, "--split=all"),
            (finished_run, photos),
            (converted, photos, "--split=all"),
        )
    ]
    assert found[0] == found[1] == found[2]
    assert found[0][0] == "40"


@pytest.mark.large
def test_one_photo_of_a_class_can_be_evaluated(finished_run, photos, command, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "few" / name).mkdir(parents=True)
        (tmp_path / "few" / name / "a.jpg").write_bytes((photos / name / "0.jpg").read_bytes())
    status, printed, said = command("evaluate", finished_run, tmp_path / "few")
    assert status == 0, said
    assert "all, 2 images" in printed


@pytest.mark.large
def test_evaluate_fails_under_the_least_accuracy(finished_run, photos, command):
    status, printed, said = command("evaluate", finished_run, "--per_class", "--least=0.99")
    assert status == 1 and "--least" in said
    assert [line.split()[0] for line in printed.splitlines()[2:]] == list(CLASSES)


@pytest.mark.large
def test_pictures_of_answers_and_attention(finished_run, photos, command, tmp_path):
    answers, where = tmp_path / "answers.png", tmp_path / "where.png"
    status, printed, _ = command(
        "predict",
        finished_run,
        photos / "one",
        f"--save={answers}",
        f"--attention={where}",
    )
    assert status == 0
    assert str(answers) in printed and str(where) in printed
    assert np.asarray(Image.open(answers).convert("L")).std() > 10
    width, height = Image.open(where).size
    assert height < 3000 and width < 3000


@pytest.mark.large
def test_a_broken_picture_is_left_out_by_name(finished_run, photos, command, tmp_path):
    broken = tmp_path / "broken.jpg"
    content = (photos / "one" / "0.jpg").read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    status, printed, said = command("predict", finished_run, photos / "one" / "1.jpg", broken)
    assert status == 0
    assert "broken.jpg" in said and "broken.jpg" not in printed


@pytest.mark.large
def test_check_tells_labels_and_engines(converted, command):
    status, printed, _ = command("check", converted)
    assert status == 0
    assert "labels      five, four, one, three, two" in printed
    assert re.search(r"XNNPACK\) +takes it in 1 partition", printed)
    assert re.search(r"GPU, by its list +takes it", printed)


@pytest.mark.large
def test_verify_finds_the_run_beside_the_file(converted, photos, command):
    status, printed, _ = command("verify", converted, f"--data={photos}")
    assert status == 0 and "40 of 40 images in the same class" in printed
    status, _, _ = command("verify", converted, "--tolerance=0")
    assert status == 1
