"""Mistakes of a newcomer: each ends in a sentence with the cure, status 2 and no traceback."""

import shutil

import pytest

from keras_hybrid.benchmark.browser.server import PageServer

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
    "images too small": ("train {photos} --out={files}/r --resolution=32", "64 to 1024"),
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
    "no answers": ("predict {run} {photos}/one/0.jpg --top=0", "must be positive"),
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
        "benchmark {files}/other.tflite --thread=2",
        "did you mean `--threads`",
    ),
    "a mistyped preset": ("weights MobileViTXS/imagnet", "imagenet"),
    "a network that does not exist": ("models IFormerXL", "IFormer"),
    "a mistyped data set": ("data {photos}s", "did you mean `{photos}`"),
    "a flag for a command": ("-v", "there are train"),
    "no folder for the run": ("train {photos} --out=", "such as runs/p"),
    "a file for the run": ("train {photos} --out={files}/labels.txt", "which is a file"),
    "a run among the photos": ("train {photos} --out={photos}/run", "outside of the photos"),
    "two folders of photos": ("train {photos} {photos} --out={files}/r", "what is"),
    "half an epoch": ("train {photos} --out={files}/r --epochs=1.5", "whole number"),
    "a rate that is no number": (
        "train {photos} --out={files}/r --learning_rate=nan",
        "a number is expected",
    ),
    "images too large": ("train {photos} --out={files}/r --resolution=9999", "64 to 1024"),
    "photos for weights": ("train {photos} --out={files}/r --weights={photos}", "finished run"),
    "weights that were not copied whole": (
        "train {photos} --out={files}/r --weights={files}/broken.keras",
        "copied whole",
    ),
    "one photo of a class": ("train {files}/flowers --out={files}/r", "two images"),
    "a model that was not copied whole": (
        "predict {files}/broken.keras {photos}/one/0.jpg",
        "copied whole",
    ),
    "a file that was not copied whole": (
        "predict {files}/other.tflite {photos}/one/0.jpg",
        "copied whole",
    ),
    "a damaged run": ("predict {files}/damaged {photos}/one/0.jpg", "is damaged"),
    "a percentage": ("evaluate {run} --least=90", "such as 0.9"),
    "a split that is not there": ("evaluate {run} {photos} --split=tests", "train, validation"),
    "nothing to evaluate on": ("evaluate {run}/model.keras", "after the model"),
    "a folder for labels": ("convert {run} --labels={photos}", "which is a folder"),
    "more answers than classes": ("convert {run} --top_k=99", "1 to 5"),
    "an unknown head": ("convert {run} --head=featres", "'features'"),
    "a text to calibrate with": (
        "convert {run} --precision=int8 --data={files}/labels.txt",
        ".npy",
    ),
    "a damaged array": (
        "convert {run} --precision=int8 --data={files}/broken.npy",
        "numpy.save",
    ),
    "no layer of that name": (
        "convert {run} --precision=int8 --keep_float=stme",
        "`keep_float` must name layers",
    ),
    "a phone's file to convert": ("convert {files}/other.tflite --out=a.tflite", ".keras file"),
    "a mistyped model to compare with": (
        "verify {files}/other.tflite --against={run}/modle.keras",
        "did you mean `{run}/model.keras`",
    ),
    "a folder to verify": ("verify {run} --against={run}", "which is a folder"),
    "a percentage of agreement": (
        "verify {files}/other.tflite --against={run} --agreement=99",
        "such as 0.99",
    ),
    "half a file to check": ("check {files}/half.tflite", "copied whole"),
    "a mistyped file to check": (
        "check {files}/othr.tflite",
        "did you mean `{files}/other.tflite`",
    ),
    "a mistyped recipe of int8": ("quantize {run} --recipe=digts", "did you mean `digits`"),
    "an unknown profile": ("quantize {run} --out={files}/q profile=int4", "'int8_cpu'"),
    "a mistyped number of int8": (
        "quantize {run} --out={files}/q epoch=1",
        "Did you mean `epochs`",
    ),
    "int8 among the photos": ("quantize {run} --out={photos}", "outside of the photos"),
    "a mistyped file to time": (
        "benchmark {files}/othr.tflite",
        "did you mean `{files}/other.tflite`",
    ),
    "no threads": ("benchmark {files}/other.tflite --threads=a", "such as 1,4"),
    "an unknown target": ("benchmark {files}/other.tflite --target=phone", "host|android"),
    "a phone without its program": (
        "benchmark {files}/half.tflite --target=android",
        "--benchmark_binary",
    ),
    "an earlier run that is not there": (
        "benchmark {files}/other.tflite --compare={files}/rows.json",
        "there is no",
    ),
    "weights without a name": ("weights --fetch", "such as MobileViTXS/imagenet"),
    "weights to convert without a network": (
        "weights --source={files}/labels.txt",
        "--model and --out must be given",
    ),
    "nothing to serve": ("serve", "such as runs/p/model.tflite"),
    "a run without its file to serve": (
        "serve {files}/unfinished",
        "keras-hybrid convert {files}/unfinished",
    ),
    "a picture to serve": ("serve {photos}/one/0.jpg", ".tflite file is expected"),
    "no engine to serve with": (
        "serve {files}/half.tflite --litertjs={files}",
        "serve --install",
    ),
    "a port that there is not": ("serve {files}/half.tflite --port=99999", "0 to 65535"),
    "a text for photos": ("data {files}/labels.txt", "which is a file"),
    "no data set of that name": ("data digts", "did you mean `digits`"),
    "a network too many": ("models MobileViTXS IFormerT", "what is 'IFormerT'"),
}


@pytest.fixture(scope="module")
def files(photos, finished_run):
    """A folder with what else is lying about."""
    folder = photos.parent / "files"
    for name in ("empty", "flat", "unfinished"):
        (folder / name).mkdir(parents=True)
    shutil.copy(photos / "one" / "0.jpg", folder / "flat" / "a.jpg")
    (folder / "unfinished" / "run.json").write_text("{}")
    (folder / "labels.txt").write_text("one\ntwo\n")
    (folder / "other.tflite").write_bytes(b"")
    (folder / "half.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(64)))
    (folder / "broken.keras").write_bytes(b"PK")
    (folder / "broken.npy").write_bytes(b"numbers")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.json").write_text('{"data"')
    shutil.copy(finished_run / "model.keras", folder / "damaged")
    for name in ("rose", "tulip"):
        (folder / "flowers" / name).mkdir(parents=True)
        shutil.copy(photos / "one" / "0.jpg", folder / "flowers" / name / f"{name}.jpg")
    for name in ("apple", "pear"):
        shutil.copytree(photos / "one", folder / "others" / name)
    return folder


@pytest.mark.large
@pytest.mark.parametrize("typed, cure", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_a_sentence_with_the_cure(
    typed, cure, photos, finished_run, files, command, monkeypatch
):
    def serve_forever(server):
        raise AssertionError("what is no mistake would be served until Ctrl-C")

    monkeypatch.setattr(PageServer, "serve_forever", serve_forever)
    places = {"photos": photos, "run": finished_run, "files": files}
    status, _, said = command(*[part.format(**places) for part in typed.split()])
    assert status == 2
    assert cure.format(**places) in said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("keras-hybrid")
    assert len(said) < 900


def test_there_are_many():
    assert len(MISTAKES) >= 80


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
