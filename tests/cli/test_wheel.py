"""The wheel: built, installed away from the clone, and used as a newcomer does.

What it needs is installed here already; that it says so is seen in its metadata. `.ci/wheel`
installs it in an empty environment.
"""

import ast
import email
import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from digit_photos import write_digit_photos

from keras_hybrid.cli.command import main
from keras_hybrid.export.metadata import read_metadata

ROOT = Path(__file__).parents[2]
CLASSES, TRAINED, HELD = 3, 24, 16  # and photos of a class
HOME = "https://github.com/someone/keras_hybrid"


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
    environment = {**os.environ, "KERAS_HYBRID_HOME": HOME}
    command = [*build, "--wheel-dir", folder, source]
    subprocess.run(command, check=True, cwd=folder, env=environment)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    """What the wheel says of itself."""
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
    return email.message_from_bytes(archive.read(name))


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
    assert "keras_hybrid/benchmark/browser/page/page.js" in names
    assert "keras_hybrid/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "recipes/", "build/"))]
    metadata = next(name for name in names if name.endswith("entry_points.txt"))
    assert b"keras-hybrid = keras_hybrid.cli.command:main" in zipfile.ZipFile(wheel).read(metadata)


def test_the_wheel_asks_for_all_that_it_imports(wheel, metadata):
    """What an empty environment would miss."""
    archive = zipfile.ZipFile(wheel)
    imported = set()
    for name in archive.namelist():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(archive.read(name))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    imported.add(node.module.partition(".")[0])
    imported -= {"keras_hybrid", "recipes", "tflite", "__future__", *sys.stdlib_module_names}
    asked = {
        re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        for requirement in metadata.get_all("Requires-Dist")
    }
    distributions = packages_distributions()
    unknown = {
        module
        for module in imported
        if not {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
        & asked
    }
    assert unknown == {"_typeshed", "pillow_heif"}, (
        "type checkers' own, and HEIC's, which is hinted"
    )


def test_links_and_pictures_of_the_wheel_s_page_are_absolute(metadata):
    text = metadata.get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all(target.startswith(("https://", "#")) for target in targets)
    assert "![The report" in text and f"({HOME}/raw/main/docs/report.png)" in text
    assert f"({HOME}/blob/main/BUILD.md)" in text
    assert f"Issues, {HOME}/issues" in metadata.get_all("Project-URL")


def test_without_an_address_the_page_has_no_dead_links(tmp_path):
    """Where nobody said where the repository is, words stay and links go."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "keras_hybrid").symlink_to(ROOT / "keras_hybrid")
    code = "import setuptools.build_meta as b; print(b.prepare_metadata_for_build_wheel('made'))"
    (tmp_path / "made").mkdir()
    unset = ("KERAS_HYBRID_HOME", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, capture_output=True
    )
    text = next((tmp_path / "made").glob("*/METADATA")).read_text()
    assert "BUILD.md" in text and "Project-URL" not in text
    assert all(
        target.startswith(("https://", "#")) for target in re.findall(r"\]\(([^)\s]+)\)", text)
    )


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
def test_photos_become_a_labelled_file_in_two_commands(installed, monkeypatch, capsys):
    """Trained with nothing but defaults but for a smaller run, and right about other photos."""
    away = installed.away
    write_digit_photos(away / "photos", range(CLASSES), TRAINED)
    write_digit_photos(away / "held", range(CLASSES), HELD, first=TRAINED)
    train = ("train", "photos", "--out=runs/p", "--resolution=64", "--epochs=16")
    done = installed(*train)
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

    # The rest in this process, which has TensorFlow already: the command is the same.
    monkeypatch.chdir(away)
    monkeypatch.setenv("TFDS_DATA_DIR", os.fspath(away / "tfds"))
    found = []
    for model in ("runs/p", "runs/p/model.tflite"):
        capsys.readouterr()
        assert main(["evaluate", model, "held", "--per_class", "--least=0.7"]) == 0
        found.append(capsys.readouterr().out.rpartition(f" {CLASSES * HELD} images")[2])
    assert found[0] == found[1]  # of each class, too
    # Finished: the same command says so, at once, and changes nothing.
    before = (run / "model.keras").stat().st_mtime_ns
    assert main(list(train)) == 0
    again = capsys.readouterr().err
    assert "finished run" in again
    kept = [line for line in done.stderr.splitlines() if line.startswith("kept the weights")]
    assert kept and kept[0] in again
    assert (run / "model.keras").stat().st_mtime_ns == before
