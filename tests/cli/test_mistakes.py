"""Mistakes of a newcomer: each ends in a sentence with the cure, status 2 and no traceback."""

import shutil

import pytest

# What is typed, and what the sentence must hold. {photos}, {run} and {files} are folders.
MISTAKES = {
    "a mistyped command": ("trian {photos}", "did you mean `train`"),
    "nothing to train on": ("train", "photos, --out"),
    "no place for the run": ("train {photos}", "--out"),
    "a mistyped folder": (
        "train {files}/../photso --out={files}/r",
        "did you mean `{files}/../photos`",
    ),
    "a file in place of a folder": ("train {files}/labels.txt --out={files}/r", "is a file"),
    "an empty folder": ("train {files}/empty --out={files}/r", "for each class"),
    "photos without class folders": (
        "train {files}/flat --out={files}/r",
        "for each class",
    ),
    "a mistyped flag": ("train {photos} --out={files}/r --epoch=3", "did you mean `--epochs`"),
    "no epochs": ("train {photos} --out={files}/r --epochs=0", "must be positive"),
    "a word for a number": ("train {photos} --out={files}/r --epochs=many", "'many'"),
    "a mistyped network": (
        "train {photos} --out={files}/r --model=MobileVitXXS",
        "MobileViTXXS",
    ),
    "images too small": ("train {photos} --out={files}/r --resolution=32", "64 or more"),
    "a mistyped tag": (
        "train {photos} --out={files}/r --weights=imagenett",
        "did you mean `imagenet`",
    ),
    "weights that are not there": (
        "train {photos} --out={files}/r --weights={files}/model.keras",
        "there is no",
    ),
    "a run of something else": (
        "train {photos} --out={run} --weights=none --epochs=1",
        "another run",
    ),
    "a data set without a recipe": ("train digits --out={files}/r", "--recipe="),
    "a mistyped recipe": ("train digits --recipe=digit --out={files}/r", "did you mean `digits`"),
    "a mistyped number of a recipe": (
        "train digits --recipe=digits --out={files}/r epocs=3",
        "Did you mean `epochs`",
    ),
    "a variant of another family": (
        "train digits --recipe=finetune/mobilevit --variant=M --out={files}/r",
        "'XXS', 'XS', 'S'",
    ),
    "a mistyped flag of a recipe": (
        "train digits --recipe=digits --outt={files}/r",
        "did you mean `--out`",
    ),
    "no picture": ("predict {run}", "pictures"),
    "a mistyped picture": (
        "predict {run} {photos}/one/0.jpgg",
        "did you mean `{photos}/one/0.jpg`",
    ),
    "a text for a picture": (
        "predict {run} {files}/labels.txt",
        "none of the pictures can be read",
    ),
    "photos for a model": ("predict {photos} {photos}/one/0.jpg", "finished run"),
    "a mistyped network to predict with": (
        "predict MobileVitXXS {photos}/one/0.jpg",
        "did you mean `MobileViTXXS`",
    ),
    "a picture in another format": ("predict {run} {photos}/one/0.jpg --save=a.jpg", ".png"),
    "no answers": ("predict {run} {photos}/one/0.jpg --top=0", "1 or more"),
    "a file of another kind to write": ("convert {run} --out={files}/model.tfl", ".tflite"),
    "an unknown precision": ("convert {run} --precision=int4", "float16"),
    "a run that is not finished": ("convert {files}/unfinished", "not finished"),
    "a mistyped run": ("convert {run}s", "did you mean"),
    "a network without a place": ("convert MobileViTXXS", "--out"),
    "labels that are not there": ("convert {run} --labels={files}/lables.txt", "did you mean"),
    "too few labels": ("convert {run} --labels={files}/labels.txt", "5 classes"),
    "other classes": ("evaluate {run} {files}/others", "no class"),
    "nothing to compare with": ("verify {files}/other.tflite", "--against"),
    "a Keras file to check": ("check {run}/model.keras", ".tflite"),
    "photos to quantize": ("quantize {photos}", "finished run"),
    "nothing to time": ("benchmark", ".tflite"),
    "a mistyped flag of the benchmark": (
        "benchmark a.tflite --thread=2",
        "did you mean `--threads`",
    ),
    "a mistyped preset": ("weights MobileViTXS/imagnet", "imagenet"),
    "a network that does not exist": ("models IFormerXL", "IFormer"),
    "a mistyped data set": ("data {photos}s", "did you mean `{photos}`"),
}


@pytest.fixture(scope="module")
def files(photos):
    """A folder with what else is lying about."""
    folder = photos.parent / "files"
    for name in ("empty", "flat", "unfinished"):
        (folder / name).mkdir(parents=True)
    shutil.copy(photos / "one" / "0.jpg", folder / "flat" / "a.jpg")
    (folder / "unfinished" / "run.json").write_text("{}")
    (folder / "labels.txt").write_text("one\ntwo\n")
    (folder / "other.tflite").write_bytes(b"")
    for name in ("apple", "pear"):
        shutil.copytree(photos / "one", folder / "others" / name)
    return folder


@pytest.mark.parametrize("typed, cure", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_a_sentence_with_the_cure(
    typed, cure, photos, finished_run, files, command
):
    places = {"photos": photos, "run": finished_run, "files": files}
    status, _, said = command(*[part.format(**places) for part in typed.split()])
    assert status == 2
    assert cure.format(**places) in said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("keras-hybrid")
    assert len(said) < 900


def test_there_are_thirty():
    assert len(MISTAKES) >= 30


@pytest.mark.parametrize(
    "module, extra",
    [("ai_edge_litert", "tflite"), ("matplotlib", "train"), ("tqdm", "train")],
)
def test_a_missing_extra_is_one_sentence(module, extra, command, monkeypatch):
    from keras_hybrid.cli import command as under_test

    def missing(name):
        raise ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.inner")

    monkeypatch.setattr(under_test.importlib, "import_module", missing)
    status, _, said = command("models")
    assert status == 2
    assert said == (
        f"keras-hybrid models: the package `{module}` is missing: "
        f"pip install 'keras-hybrid[{extra}]'\n"
    )


def test_a_fault_of_this_package_keeps_its_traceback(command, monkeypatch):
    from keras_hybrid.cli import command as under_test

    def fault(name):
        raise TypeError("a bug")

    monkeypatch.setattr(under_test.importlib, "import_module", fault)
    with pytest.raises(TypeError, match="a bug"):
        command("models")


@pytest.mark.parametrize("raised, status", [(KeyboardInterrupt(), 3), (BrokenPipeError(), 0)])
def test_what_ends_a_command_from_outside(raised, status, command, monkeypatch):
    from keras_hybrid.cli import command as under_test

    def end(name):
        raise raised

    monkeypatch.setattr(under_test.importlib, "import_module", end)
    monkeypatch.setattr(under_test.os, "dup2", lambda *_: None)
    assert command("models")[0] == status
