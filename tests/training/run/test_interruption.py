"""Runs that are told to end go on as if nothing had happened; a folder has one writer."""

import dataclasses
import io
import signal
import threading

import keras
import numpy as np
import pytest

from keras_hybrid.files import FolderInUseError, locked_folder
from keras_hybrid.training.run.interruption import TrainingStoppedError
from keras_hybrid.training.run.run import train


class SignalAt(keras.callbacks.Callback):
    """Sends this process a signal after a step, as a terminal or a scheduler does."""

    def __init__(self, number, epoch, step):
        super().__init__()
        self.number, self.moment, self.epoch = number, (epoch, step), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.moment:
            signal.raise_signal(self.number)


@pytest.mark.large
@pytest.mark.parametrize(
    "change",
    [{"ema_momentum": 0.9, "mixup": 0.5}, {"scales": (64, 96), "resolution": 96, "batch_size": 4}],
    ids=str,
)
def test_signals_end_a_run_after_the_step_and_it_goes_on_to_the_same_weights(
    recipe, source, tmp_path, tiny_network, change
):
    """Ctrl-C in the first epoch, SIGTERM in the second and after its last step."""
    recipe = dataclasses.replace(recipe, **change)
    whole = train(recipe, source, tmp_path / "whole", stream=io.StringIO())
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    moments = [
        (signal.SIGINT, 0, 1, "SIGINT after step 2 of epoch 1"),
        (signal.SIGTERM, 1, 0, "SIGTERM after step 1 of epoch 2"),
        (signal.SIGTERM, 1, 2, "SIGTERM after epoch 2"),  # its fourth step, of three that are left
    ]
    for number, epoch, step, said in moments:
        with pytest.raises(TrainingStoppedError, match=f"Stopped by {said}, and saved"):
            train(
                recipe,
                source,
                tmp_path / "cut",
                stream=io.StringIO(),
                callbacks=(SignalAt(number, epoch, step),),
            )
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    stream = io.StringIO()
    resumed = train(recipe, source, tmp_path / "cut", stream=stream)
    assert "resuming" in stream.getvalue()
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert [row[name] for row in resumed.history] == [row[name] for row in whole.history]
    for first, second in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_a_second_writer_is_refused_and_finds_the_folder_free_afterwards(
    recipe, source, tmp_path, tiny_network
):
    folder = tmp_path / "run"

    class Second(keras.callbacks.Callback):
        refused = []

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                with pytest.raises(FolderInUseError, match="another one is writing") as error:
                    train(recipe, source, folder, stream=io.StringIO())
                self.refused.append(error)
                thread = threading.Thread(target=self.write)
                thread.start()
                thread.join()

        def write(self):
            with pytest.raises(FolderInUseError), locked_folder(folder):
                pass

    left = folder / ".state.0123.partial.npz"
    folder.mkdir()
    left.write_bytes(b"of a killed process")
    train(recipe, source, folder, stream=io.StringIO(), callbacks=(Second(),))
    assert len(Second.refused) == 1 and not left.exists()
    with locked_folder(folder):
        pass
