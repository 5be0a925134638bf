"""A whole run: what it writes, what it refuses, and SIGKILL at any moment."""

import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.evaluation import Evaluation, evaluate
from keras_hybrid.training.run import callbacks
from keras_hybrid.training.run.callbacks import TrainingDivergedError
from keras_hybrid.training.run.run import load_run, new_network, train, training_network


@pytest.fixture
def run(recipe, source, tmp_path, tiny_network):
    stream = io.StringIO()
    finished = train(recipe, source, tmp_path / "run", stream=stream)
    return finished, stream.getvalue()


def test_a_run_writes_its_files_and_can_be_read_again(run, source, recipe):
    finished, printed = run
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {"run.json", "state.npz", "history.csv", "best.keras", "model.keras"}
    assert [row["epoch"] for row in finished.history] == [1, 2, 3]
    with open(finished.folder / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [row["val_loss"] for row in finished.history]
    assert printed.count("images/s") == 3 and "epoch 3/3" in printed and "left 00:00" in printed
    assert printed.count("compiling the step") == 1

    again = load_run(finished.folder)
    assert again.recipe == recipe and again.data == "greys" and again.class_names == tuple("abcd")
    dataset = evaluation_dataset(source, recipe)
    result = evaluate(again.model, dataset)
    assert result.accuracy == pytest.approx(finished.history[-1]["val_accuracy"])
    np.testing.assert_allclose(result.scores.sum(-1), 1, rtol=1e-5)  # softmax in
    np.testing.assert_allclose(evaluate(finished.model, dataset).scores, result.scores, rtol=1e-6)


def test_the_time_left_does_not_count_compiling(monkeypatch):
    """A first step of 60 s, 3 more of 1 s and 2 s of evaluation, of which the first 1.5 compile."""
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = callbacks.Progress(images_per_step=8, epochs=3, steps=4, stream=stream)
    for epoch, first in enumerate((60.0, 1.0)):
        progress.on_epoch_begin(epoch)
        for step in range(4):
            now[0] += 1.0 if step else first
            progress.on_train_batch_end(step, {"loss": 1.0})
        progress.on_test_begin()
        for seconds in (0.5 + first / 60, 0.5):
            now[0] += seconds
            progress.on_test_batch_end(0)
        progress.on_epoch_end(epoch)
    progress.on_epoch_begin(2)  # without evaluation
    for step in range(4):
        now[0] += 0.5
        progress.on_train_batch_end(step, {"loss": 1.0})
    progress.on_epoch_end(2)
    first, second, third = stream.getvalue().splitlines()[1:]
    assert "2.0 s  16 images/s" in third
    assert "3.5 s  8 images/s" in first and "left 00:07" in first and "61.5 s of compiling" in first
    assert "5.0 s  8 images/s" in second and "compiling" not in second


def test_of_epochs_of_one_accuracy_the_one_of_least_loss_is_the_best(tmp_path):
    history, saved = [], []
    saver = callbacks.Saver(tmp_path, lambda: saved.append(len(history)), history, writes=False)
    saver.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1)))
    for accuracy, loss in ((0.5, 1.0), (0.9, 0.8), (0.9, 0.5), (0.9, 0.6), (0.8, 0.1)):
        saver.on_epoch_begin(0)
        saver.on_epoch_end(0, {"val_accuracy": accuracy, "val_loss": loss})
    assert saved == [1, 2, 3]


def test_a_finished_run_is_not_trained_again(run, source, recipe):
    finished, _ = run
    stream = io.StringIO()
    again = train(recipe, source, finished.folder, stream=stream)
    assert "finished run" in stream.getvalue() and "epoch" not in stream.getvalue()
    assert again.history == finished.history


def test_a_folder_of_another_run_is_refused(run, source, recipe):
    finished, _ = run
    with pytest.raises(ValueError, match="learning_rate=0.001 there, 0.5 now"):
        train(dataclasses.replace(recipe, learning_rate=0.5), source, finished.folder)
    with pytest.raises(ValueError, match="data='greys' there, 'others' now"):
        train(recipe, dataclasses.replace(source, name="others"), finished.folder)
    with pytest.raises(ValueError, match="A finished run's folder"):
        load_run(finished.folder.parent)


def test_what_is_refused_leaves_no_folder_behind(recipe, source, tmp_path, tiny_network):
    folder = tmp_path / "run"
    without_test = dataclasses.replace(source, sizes={"train": 32})
    for change, data, message in (
        ({"warmup_epochs": 9.0}, source, "The warm-up must be shorter"),
        ({"initial_weights": "none.keras"}, source, "Received: 'none.keras'"),
        ({"batch_size": 64}, source, "must hold a batch"),
        ({}, without_test, "needs one of the splits"),
    ):
        with pytest.raises(ValueError, match=message):
            train(dataclasses.replace(recipe, **change), data, folder)
        assert not folder.exists()


@pytest.mark.large
def test_a_run_without_a_finished_epoch_makes_room_for_another(
    recipe, source, tmp_path, tiny_network
):
    with pytest.raises(TrainingDivergedError):
        train(dataclasses.replace(recipe, learning_rate=1e30), source, tmp_path)
    assert train(recipe, source, tmp_path, stream=io.StringIO()).recipe == recipe
    assert load_run(tmp_path).recipe == recipe


@pytest.mark.large
@pytest.mark.parametrize(("accumulation_steps", "warmup"), [(1, False), (2, True)])
def test_weights_and_statistics_are_averaged_in_closed_form(
    recipe, source, tmp_path, tiny_network, accumulation_steps, warmup
):
    """Also where training is interrupted and resumed, and the best epoch saved in between."""
    recipe = dataclasses.replace(
        recipe,
        ema_momentum=0.75,
        ema_warmup=warmup,
        learning_rate=0.02,
        accumulation_steps=accumulation_steps,
    )

    class Recorder(keras.callbacks.Callback):
        weights, statistics = [], []

        def on_train_batch_end(self, batch, logs=None):
            self.statistics.append(self.model.get_layer("norm").moving_mean.numpy())
            if batch % accumulation_steps == accumulation_steps - 1:
                self.weights.append(self.model.get_layer("conv").kernel.numpy())

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2 and len(self.weights) == 8:
                raise KeyboardInterrupt

    def averaged(values, by_update):
        average = values[0]
        for place, value in enumerate(values[1:], start=1):
            update = place // by_update
            momentum = min(0.75, (1 + update) / (10 + update)) if warmup else 0.75
            momentum **= 1 / by_update
            average = momentum * average + (1 - momentum) * value
        return average

    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        train(recipe, source, tmp_path, stream=io.StringIO(), callbacks=(recorder,))
    Recorder.on_epoch_begin = keras.callbacks.Callback.on_epoch_begin
    model = train(recipe, source, tmp_path, stream=io.StringIO(), callbacks=(recorder,)).model
    assert len(recorder.weights) == 12 and len(recorder.statistics) == 12 * accumulation_steps
    np.testing.assert_allclose(
        model.get_layer("conv").kernel.numpy(), averaged(recorder.weights, 1), atol=1e-5
    )
    expected = averaged(recorder.statistics, accumulation_steps)
    np.testing.assert_allclose(model.get_layer("norm").moving_mean.numpy(), expected, atol=1e-5)
    assert np.abs(expected - recorder.statistics[-1]).max() > 1e-3


@pytest.mark.large
def test_an_average_that_a_run_is_too_short_for_is_left_out_and_said(
    recipe, source, tmp_path, tiny_network
):
    """The recipes' 0.9995 on 32 images: of 12 updates, 99 % of the first weights would stay."""
    recipe = dataclasses.replace(recipe, ema_momentum=0.9995, learning_rate=0.05)
    vain = dataclasses.replace(recipe, ema_warmup=False)
    results = {}
    for name, changed in (("warm", recipe), ("vain", vain)):
        stream = io.StringIO()
        run = train(changed, source, tmp_path / name, stream=stream)
        saved = json.loads((run.folder / "run.json").read_text())["saved"]
        assert load_run(run.folder).recipe == changed
        results[name] = (run, saved, stream.getvalue())
    run, saved, said = results["vain"]
    assert "no moving average: after the 12 updates of this run, 99% of it" in said
    assert saved == {"weights": "last", "val_accuracy": run.history[-1]["val_accuracy"]}
    run, saved, said = results["warm"]
    assert "no moving average" not in said
    assert saved["weights"] == "average"
    assert saved["val_accuracy"] == run.history[-1]["val_accuracy"]
    # It has left the first weights: it does as well as the weights that it averages.
    assert abs(saved["val_accuracy"] - saved["val_accuracy_of_last"]) <= 0.25
    assert f"saved the moving average of the weights: {saved['val_accuracy']:.2%}" in said
    assert f"{saved['val_accuracy_of_last']:.2%} with the last weights themselves" in said


@pytest.mark.large
def test_the_moving_average_is_evaluated_and_saved(recipe, source, tmp_path, tiny_network):
    recipe = dataclasses.replace(recipe, ema_momentum=0.9, learning_rate=0.05)
    finished = train(recipe, source, tmp_path / "run", stream=io.StringIO())
    dataset = evaluation_dataset(source, recipe)
    compiled = keras.models.load_model(finished.folder / "model.keras")
    compiled.compile(loss="categorical_crossentropy")
    loss = compiled.evaluate(dataset, verbose=0)
    assert loss == pytest.approx(finished.history[-1]["val_loss"], rel=1e-3)
    # The weights themselves, which the state holds, are others.
    with np.load(finished.folder / "state.npz") as arrays:
        kernel = finished.model.get_layer("conv").kernel.numpy()
        stored = [array for array in arrays.values() if array.shape == kernel.shape]
    assert not np.allclose(stored[0], kernel, atol=1e-4)


def test_a_loss_that_is_no_number_ends_the_run_before_anything_is_saved(
    recipe, source, tmp_path, tiny_network
):
    recipe = dataclasses.replace(recipe, learning_rate=1e30)
    with pytest.raises(
        TrainingDivergedError, match=r"at step \d of epoch 1, learning rate .*none yet"
    ):
        train(recipe, source, tmp_path / "run", stream=io.StringIO())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json"}


# The program that is killed: `moment` says where in the run it kills itself.
PROGRAM = """
import os
import signal
import sys

import keras
import small_training
import tensorflow as tf
from keras_hybrid.training.run import training_state as checkpoint, run

tf.config.threading.set_intra_op_parallelism_threads(1)  # sums in one order on a busy machine

folder, moment = sys.argv[1:]

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

class Killer(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if moment == f"epoch {self.epoch} batch {batch}":
            kill()

class HalfWritten:
    def __init__(self, save):
        self.save, self.calls = save, 0

    def __call__(self, file, **arrays):
        if moment == "writing epoch 1" and len(str(arrays["history"])) > 300:
            file.write(b"half of the st")
            file.flush()
            kill()
        self.save(file, **arrays)

checkpoint.np.savez = HalfWritten(checkpoint.np.savez)
run.new_network = small_training.make_tiny_network
run.train(small_training.RECIPE, small_training.make_source(), folder, callbacks=(Killer(),))
"""


@pytest.mark.large
def test_sigkill_at_any_moment_costs_no_more_than_the_epoch(tmp_path):
    """Killed in the first epoch, while the second's state is written, and in the third."""
    folder, uninterrupted = tmp_path / "killed", tmp_path / "whole"
    (tmp_path / "program.py").write_text(PROGRAM)

    def run_program(folder, moment):
        return subprocess.run(
            [sys.executable, tmp_path / "program.py", folder, moment],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    done = run_program(uninterrupted, "never")
    assert done.returncode == 0, done.stderr[-2000:]
    moments = {
        "epoch 0 batch 2": None,
        "writing epoch 1": 1,
        "epoch 2 batch 1": 2,
        "never": 3,
    }
    for moment, epochs_kept in moments.items():
        done = run_program(folder, moment)
        expected = 0 if moment == "never" else -signal.SIGKILL
        assert done.returncode == expected, done.stderr[-2000:]
        if epochs_kept is None:
            assert not (folder / "state.npz").exists()
        else:
            with np.load(folder / "state.npz") as arrays:
                assert str(arrays["history"]).count("val_loss") == epochs_kept
    killed, uninterrupted = load_run(folder), load_run(uninterrupted)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert [row[name] for row in killed.history] == [row[name] for row in uninterrupted.history]
    for first, second in zip(killed.model.weights, uninterrupted.model.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_evaluation_counts():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]])
    result = Evaluation(np.array([0, 2, 2]), scores)
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.top_accuracy(2) == pytest.approx(2 / 3)
    assert result.top_accuracy(3) == 1
    np.testing.assert_array_equal(result.class_accuracy(), [1, np.nan, 0])
    assert result.cross_entropy == pytest.approx(-np.log([0.7, 0.3, 0.2]).mean())
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"Received: k={k}"):
            result.top_accuracy(k)


def test_a_model_of_other_classes_is_refused(recipe, source):
    image = keras.Input((64, 64, 3))
    model = keras.Model(image, keras.layers.Dense(7)(keras.layers.Flatten()(image)))
    with pytest.raises(ValueError, match="a model of 7 classes, data of 4"):
        evaluate(model, evaluation_dataset(source, recipe))


def test_the_recipes_options_reach_the_network(recipe):
    recipe = dataclasses.replace(recipe, dropout_rate=0.25, drop_path_rate=0.2)
    model = new_network(recipe, 4)
    assert model.output_shape == (None, 4) and model.input_shape == (None, 64, 64, 3)
    rates = [layer.rate for layer in model.layers if type(layer).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.2)
    assert 0.25 in [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"]


@pytest.mark.large
@pytest.mark.parametrize(
    "change",
    [
        {"scales": (64, 96)},
        {"accumulation_steps": 2},
        {"ema_momentum": 0.9, "scales": (64, 96)},
        {"finish_on": "device", "erase_probability": 0.5, "mixup": 0.8, "cutmix": 1.0},
    ],
    ids=str,
)
def test_every_way_of_training_ends_in_the_same_plain_model_and_resumes(
    recipe, source, tmp_path, tiny_network, change
):
    recipe = dataclasses.replace(recipe, **change)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    whole = train(recipe, source, tmp_path / "whole", stream=io.StringIO())
    with pytest.raises(KeyboardInterrupt):
        train(recipe, source, tmp_path / "cut", stream=io.StringIO(), callbacks=(Stop(),))
    resumed = train(recipe, source, tmp_path / "cut", stream=io.StringIO())
    assert whole.model.input_shape == (None, 64, 64, 3)
    assert {layer.compute_dtype for layer in whole.model.layers} == {"float32"}
    assert whole.history[-1]["loss"] == resumed.history[-1]["loss"]
    for first, second in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_mixed_precision_computes_in_half_the_width_with_the_same_weights(recipe):
    model = new_network(recipe, 4)
    assert training_network(recipe, model) is model
    network = training_network(dataclasses.replace(recipe, precision="mixed_bfloat16"), model)
    assert network.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    for first, second in zip(model.weights, network.weights, strict=True):
        assert second.dtype == first.dtype
        np.testing.assert_array_equal(first.numpy(), second.numpy())
