"""The wheel: built, installed away from the clone, and used as a newcomer does."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from digit_photos import write_digit_photos

from keras_hybrid.export.metadata import read_metadata

ROOT = Path(__file__).parents[2]
TRAINED, HELD = 24, 16  # photos of a class


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in ("keras_hybrid", "recipes", "tflite"):  # so that the clone gets no build/
        (source / name).symlink_to(ROOT / name)
    subprocess.run([*build, "--wheel-dir", folder, source], check=True, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs the installed command, in a folder away from the clone."""
    site = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    subprocess.run([*install, wheel], check=True)
    away = tmp_path_factory.mktemp("away")
    environment = {**os.environ, "PYTHONPATH": os.fspath(site), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment["TFDS_DATA_DIR"] = os.fspath(away / "tfds")

    def run(*arguments, status=0):
        done = subprocess.run(
            [sys.executable, site / "bin" / "keras-hybrid", *arguments],
            capture_output=True,
            text=True,
            cwd=away,
            env=environment,
        )
        assert done.returncode == status, done.stderr
        return done

    run.site, run.away = site, away
    return run


def test_the_wheel_holds_programs_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("recipes/train.py", "recipes/finetune/mobilevit.py", "tflite/benchmark.py"):
        assert f"keras_hybrid/programs/{name}" in names
    assert "keras_hybrid/weights/imagenet_classes.tsv" in names
    assert "keras_hybrid/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "recipes/", "build/"))]
    metadata = next(name for name in names if name.endswith("entry_points.txt"))
    assert b"keras-hybrid = keras_hybrid.cli.command:main" in zipfile.ZipFile(wheel).read(metadata)


def test_recipes_are_found_where_it_is_installed(installed):
    done = installed("train", "digits", "--recipe=no", "--out=a", status=2)
    assert "finetune/mobilevit" in done.stderr
    code = "import keras_hybrid; print(keras_hybrid.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.fspath(installed.site)},
        cwd=installed.away,
    )
    assert where.stdout.startswith(os.fspath(installed.site))


@pytest.mark.large
def test_photos_become_a_labelled_file_in_two_commands(installed):
    """Fine-tuned with nothing but defaults but for a smaller run, and right about other photos."""
    away = installed.away
    write_digit_photos(away / "photos", range(5), TRAINED)
    write_digit_photos(away / "held", range(5), HELD, first=TRAINED)
    done = installed("train", "photos", "--out=runs/p", "--resolution=64", "--epochs=16")
    assert "published weights cannot be had" in done.stderr
    assert "I0000" not in done.stderr and "oneDNN" not in done.stderr
    installed("convert", "runs/p")
    run = away / "runs" / "p"
    labels = json.loads((run / "run.json").read_text())["class_names"]
    assert read_metadata(run / "model.tflite").labels == tuple(labels)
    assert (run / "labels.txt").read_text().split() == labels == sorted(labels)
    page = (run / "report.html").read_text()
    assert "data:image/jpeg;base64," in page and "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert "What to do next" in (run / "report.md").read_text()

    found = [
        installed("evaluate", model, "held", "--per_class", "--least=0.7").stdout
        for model in ("runs/p", "runs/p/model.tflite")
    ]
    of_run, of_file = (text.rpartition(f" {5 * HELD} images")[2] for text in found)
    assert of_run == of_file  # of each class, too
    # Finished: the same command says so, at once, and changes nothing.
    before = (run / "model.keras").stat().st_mtime_ns
    again = installed("train", "photos", "--out=runs/p", "--resolution=64", "--epochs=16")
    assert "finished run" in again.stderr
    kept = [line for line in done.stderr.splitlines() if line.startswith("kept the weights")]
    assert kept and kept[0] in again.stderr
    assert (run / "model.keras").stat().st_mtime_ns == before
