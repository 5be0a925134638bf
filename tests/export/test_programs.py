"""tflite/convert.py and tflite/verify.py as a user runs them."""

import re

import numpy as np
import pytest


@pytest.fixture
def program(programs):
    def run(name, *arguments, **options):
        return programs(f"tflite/{name}", *arguments, **options)

    return run


@pytest.mark.large
def test_convert_then_verify(program, classifier, tmp_path):
    keras_file, tflite = tmp_path / "model.keras", tmp_path / "model.tflite"
    classifier.save(keras_file)
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    done = program(
        "convert.py",
        f"--model={keras_file}",
        f"--output={tflite}",
        f"--labels={tmp_path / 'labels.txt'}",
        fresh=True,
    )
    assert done.returncode == 0, done.stderr
    assert "CONV_2D" in done.stdout and "takes it in 1 partition" in done.stdout
    assert re.search(r"GPU, by its list +takes it", done.stdout)
    made = re.search(r"made in (\d+) s, memory at its peak (\d+\.\d\d) GiB", done.stdout)
    assert 0.1 < float(made[2]) < 4

    images = np.random.default_rng(0).normal(size=(5, 16, 16, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    arguments = (tflite, f"--data={tmp_path / 'images.npy'}", "--raw")
    done = program("verify.py", *arguments, f"--against={keras_file}", fresh=True)
    assert done.returncode == 0 and "5 of 5 images" in done.stdout, done.stderr

    classifier_weights = classifier.get_weights()
    other = type(classifier).from_config(classifier.get_config())
    other.set_weights([-weight if weight.ndim == 2 else weight for weight in classifier_weights])
    other.save(tmp_path / "other.keras")
    done = program("verify.py", *arguments, f"--against={tmp_path / 'other.keras'}")
    assert done.returncode == 1 and "Keras says" in done.stdout


@pytest.mark.large
def test_convert_to_integers(program, classifier, tmp_path, require):
    require(module="tensorflow_model_optimization")
    import keras

    keras_file, folder = tmp_path / "model.keras", tmp_path / "images"
    classifier.save(keras_file)
    (folder / "cats").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(12):
        picture = random.uniform(0, 255, (20, 24, 3))
        keras.utils.save_img(folder / "cats" / f"{number}.png", picture, scale=False)
    np.save(tmp_path / "images.npy", random.normal(size=(12, 16, 16, 3)).astype("float32"))
    arguments = (f"--model={keras_file}", f"--data={tmp_path / 'images.npy'}", "--raw")

    done = program(
        "convert.py",
        *arguments,
        f"--output={tmp_path / 'int8.tflite'}",
        "--precision=int8",
        "--input=int8",
        "--scores=uint8",
    )
    assert done.returncode == 0, done.stderr
    assert "not in integers: nothing" in done.stdout and "multiply-adds: " in done.stdout

    kept = program(
        "convert.py",
        *arguments,
        f"--output={tmp_path / 'kept.tflite'}",
        "--precision=int8",
        f"--keep_float={classifier.layers[-1].name}",
    )
    assert kept.returncode == 0, kept.stderr
    assert re.search("not in integers: (?!nothing)", kept.stdout)

    # Pictures need to be normalised, and nothing says how for a network of nobody knows whom.
    done = program(
        "convert.py",
        f"--model={keras_file}",
        f"--data={folder}",
        f"--output={tmp_path / 'x.tflite'}",
        "--precision=int8_cpu",
    )
    assert done.returncode == 1 and "none of this package's" in done.stderr
    done = program(
        "convert.py",
        f"--model={keras_file}",
        f"--data={folder}",
        "--raw",
        f"--output={tmp_path / 'int16.tflite'}",
        "--precision=int16x8",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("convert.py", ["--model=MobileFormer27M", "--output=a.tflite"], "Did you mean"),
        ("convert.py", ["--model=missing.keras", "--output=a.tflite"], "missing.keras"),
        ("convert.py", ["--output=a.tflite"], "--model"),
        ("convert.py", ["--model=IFormerT", "--output=a.tflite", "--precision=int8"], "`data`"),
        ("convert.py", ["--model=IFormerT", "--output=a.tflite", "--data=x.npy"], "int8_cpu"),
        ("verify.py", ["missing.tflite", "--against=IFormerT"], "missing.tflite"),
        ("verify.py", ["--against=IFormerT"], "name one .tflite"),
        ("benchmark.py", ["--table", "--against=missing.json"], "missing.json"),
    ],
)
def test_bad_input_is_explained_without_a_traceback(program, name, arguments, message):
    done = program(name, *arguments)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
