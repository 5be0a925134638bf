"""A run goes on elsewhere: with other devices' numbers, after damage, and inside an epoch."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest

from keras_hybrid.training.run.run import (
    compile_for_training,
    train,
    training_network,
    training_view,
)
from keras_hybrid.training.run.step_logs import StepCallbacks, StepLogs


class StopAt(keras.callbacks.Callback):
    """Ends the process's work at a step, as SIGKILL does: nothing is saved for it."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.moment, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.moment:
            raise InterruptedError


def interrupted(*arguments, moment, **options):
    """A run that ends at a step."""
    with pytest.raises(InterruptedError):
        train(*arguments, stream=io.StringIO(), callbacks=(StopAt(*moment),), **options)


def resumed(*arguments, **options):
    """A run that has ended, and what it printed."""
    stream = io.StringIO()
    return train(*arguments, stream=stream, **options), stream.getvalue()


def kernels(run):
    return [weight.numpy() for weight in run.model.weights]


@pytest.mark.large
def test_states_inside_an_epoch_and_before_the_newest_give_the_same_weights(
    recipe, source, tmp_path, tiny_network
):
    """Ended in the second epoch; then the newest state, of its third step, is cut off."""
    whole = train(recipe, source, tmp_path / "whole", stream=io.StringIO())
    folder = tmp_path / "cut"
    interrupted(recipe, source, folder, moment=(1, 3), save_minutes=1e-9, keep_states=3)
    names = {path.name for path in folder.glob("state*")}
    assert names == {"state.npz", "state.1.npz", "state.2.npz"}
    newest = folder / "state.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    run, said = resumed(recipe, source, folder, keep_states=3)
    assert "state.npz is not whole: going on from" in said and "state.1.npz" in said
    assert "after epoch 1 and step 2 of the next" in said
    for first, second in zip(kernels(whole), kernels(run), strict=True):
        np.testing.assert_array_equal(first, second)
    assert [row["loss"] for row in run.history] == [row["loss"] for row in whole.history]
    assert [path.name for path in folder.glob("state*")] == ["state.npz"]


def test_states_of_which_none_is_whole_are_named(recipe, source, tmp_path, tiny_network):
    (tmp_path / "state.npz").write_bytes(b"PK half of a file")
    with pytest.raises(ValueError, match="remove the files to begin.*state.npz, which is cut off"):
        train(recipe, source, tmp_path)
    (tmp_path / "run.json").write_text('{"recipe": {')
    with pytest.raises(ValueError, match="run.json, which is damaged"):
        train(recipe, source, tmp_path)


@pytest.mark.large
def test_a_run_goes_on_with_the_numbers_of_another_machine(recipe, source, tmp_path, tiny_network):
    """Accumulation and precision change inside an epoch, the data's path, too; all is said."""
    recipe = dataclasses.replace(recipe, ema_momentum=0.5)
    here = dataclasses.replace(source, name="folder:/here", fingerprint="abc")
    there = dataclasses.replace(source, name="folder:/there", fingerprint="abc")
    interrupted(recipe, here, tmp_path, moment=(1, 2), save_minutes=1e-9)
    with pytest.raises(ValueError, match="other images than when it began"):
        train(recipe, dataclasses.replace(there, fingerprint="abd"), tmp_path)
    with pytest.raises(ValueError, match="seed=7 there, 8 now"):
        train(dataclasses.replace(recipe, seed=8, precision="mixed_bfloat16"), there, tmp_path)

    other = dataclasses.replace(recipe, accumulation_steps=2, precision="mixed_float16")
    steps = []

    class Count(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            optimizer = self.model.optimizer
            assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
            steps.append((int(optimizer.iterations), int(optimizer.inner_optimizer._iterations)))

    run, said = resumed(other, there, tmp_path, callbacks=(Count(),))
    assert "after epoch 1 and step 6 of the next" in said  # three steps were six halves
    for change in (
        "accumulation_steps=1 there, 2 now",
        "precision='float32' there, 'mixed_float16' now",
        "data='folder:/here' there, 'folder:/there' now",
    ):
        assert f"goes on with another {change}" in said
    assert steps == [(7, 14), (8, 16)] and len(run.history) == 3
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["recipe"]["accumulation_steps"] == 2
    assert described["machine"].endswith("1 device, 1 process")
    assert np.isfinite([row["loss"] for row in run.history]).all()


@pytest.mark.large
def test_steps_in_a_row_and_epochs_without_evaluation(recipe, source, tmp_path, tiny_network):
    recipe = dataclasses.replace(recipe, epochs=5)
    plain = train(recipe, source, tmp_path / "plain", stream=io.StringIO())
    changed = dataclasses.replace(recipe, steps_per_execution=3, validation_every=2)
    calls = []

    class Calls(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            calls.append(batch)

    run, said = resumed(changed, source, tmp_path / "rare", callbacks=(Calls(),))
    assert "2 steps in a row in place of steps_per_execution=3" in said and calls == [1, 3] * 5
    assert said.count("images/s") == 5
    assert ["val_loss" in row for row in run.history] == [False, True, False, True, True]
    for first, second in zip(kernels(plain), kernels(run), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    lines = (tmp_path / "rare" / "history.csv").read_text().splitlines()
    assert len({line.count(",") for line in lines}) == 1 and "val_loss" in lines[0]


def test_half_precision_scales_its_loss(recipe, tiny_network):
    """Gradients below 6e-8 would be 0 in float16."""
    import small_training

    for precision, is_scaled in (("mixed_float16", True), ("mixed_bfloat16", False)):
        half = dataclasses.replace(recipe, precision=precision)
        network = training_network(half, small_training.make_tiny_network(half, 4))
        view, _ = training_view(network, half)
        compile_for_training(view, half, 4)
        assert isinstance(view.optimizer, keras.optimizers.LossScaleOptimizer) == is_scaled


def test_metrics_come_from_the_device_only_when_they_are_read():
    read = []

    class Tensor:
        def __array__(self, dtype=None, copy=None):
            read.append(1)
            return np.array(0.5, "float32")

    class Reader(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                assert dict(logs) == {"loss": 0.5} and logs.get("none") is None

    callbacks = StepCallbacks([Reader()], keras.Model(), epochs=1, steps=4)
    for batch in range(4):
        callbacks.on_train_batch_begin(batch)
        callbacks.on_train_batch_end(batch, {"loss": Tensor()})
        assert len(read) == (batch >= 2)
    assert len(StepLogs({"a": 1.0})) == 1
