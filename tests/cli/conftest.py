"""Photos, a finished run that nobody had to train, and the command in this process."""

import os

import pytest

CLASSES = ("five", "four", "one", "three", "two")  # code points' order, as folders are read


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Five classes of digits, eight photos each."""
    from digit_photos import write_digit_photos

    folder = tmp_path_factory.mktemp("cli") / "photos"
    write_digit_photos(folder, range(1, 6), 8)
    return folder


@pytest.fixture(scope="session")
def finished_run(photos):
    """The folder of a finished run on the photos, its weights as they are when new."""
    import keras
    from finished_runs import write_run

    import keras_hybrid
    from keras_hybrid.training.recipe.recipe import Recipe

    folder = photos.parent / "runs" / "fruit"
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(0)
    model = keras_hybrid.build_model(
        "MobileFormer26M", weights=None, classes=len(CLASSES), input_shape=(64, 64, 3)
    )
    recipe = Recipe(
        model="MobileFormer26M",
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        resolution=64,
        crop_fraction=1.0,
    )
    rows = [
        {"loss": 1.7, "val_loss": 1.6, "accuracy": 0.3, "val_accuracy": 0.2},
        {"loss": 1.5, "val_loss": 1.5, "accuracy": 0.4, "val_accuracy": 0.4},
    ]
    return write_run(folder, model, recipe, photos, CLASSES, rows)


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch, tmp_path_factory):
    """The command changes nothing of this process, and keeps its notes on files apart."""
    monkeypatch.setattr("keras_hybrid.training.run.startup.prepare_process", lambda: None)
    monkeypatch.setenv("TFDS_DATA_DIR", os.fspath(tmp_path_factory.getbasetemp() / "tfds"))


@pytest.fixture
def command(capsys):
    """Runs `keras-hybrid` with arguments: (status, what it printed, what it complained of)."""
    from keras_hybrid.cli.command import main

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run
