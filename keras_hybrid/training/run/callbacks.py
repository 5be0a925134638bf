"""What a run does between batches and epochs: progress, checkpoints, and a stop on NaN."""

import csv
import math
import time
from collections.abc import Callable

import keras
from tqdm import tqdm

from keras_hybrid.commentary import STANDARD_ERROR
from keras_hybrid.files import STATE_FILE, place, whole_file
from keras_hybrid.training.run.training_state import save_state

READ_EVERY = 16  # steps, after which the loss is brought from the device
SHOWN_EVERY = 0.5  # seconds, the same of the metrics of a bar


class TrainingDivergedError(ArithmeticError):
    """The loss is no number any more."""


class Progress(keras.callbacks.Callback):
    """A bar for each epoch, with images/s, metrics and the time left; a line when it ends.

    The first step, and the first of evaluation, are compiled: that takes up to minutes, is said,
    and is left out of the speed and of the time left.

    Args:
        images_per_step: the global batch.
        epochs: in all.
        steps: an epoch.
        stream: where to write.
        first_step: of the first epoch, where that goes on in its middle.
    """

    def __init__(
        self,
        images_per_step: int,
        epochs: int,
        steps: int,
        stream=STANDARD_ERROR,
        first_step: int = 0,
    ):
        super().__init__()
        self.first_step = first_step
        self.images_per_step = images_per_step
        self.epochs = epochs
        self.steps = steps
        self.stream = stream
        self._compiling = {}  # seconds of the first step of training, and of evaluation
        self._compiled_steps = 0  # in the first execution, which compiles
        self._trained = None  # when the epoch's evaluation began, if it has one
        self._shown = -math.inf

    def on_epoch_begin(self, epoch, logs=None):
        self._started, self._trained = time.monotonic(), None
        self._done = 0
        self._bar = tqdm(
            total=self.steps * self.images_per_step,
            initial=self.first_step * self.images_per_step,
            desc=f"epoch {epoch + 1}/{self.epochs}",
            unit=" images",
            file=self.stream,
            disable=None,  # on a terminal only
            leave=False,
        )
        if "training" not in self._compiling:
            tqdm.write("compiling the step, which can take a minute or two", file=self.stream)

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self._compiling.setdefault("training", now - self._started)
        self._compiled_steps = self._compiled_steps or batch + 1
        if not self._bar.disable and now - self._shown > SHOWN_EVERY:
            self._shown = now
            self._bar.set_postfix(_brief(logs), refresh=False)
        self._bar.update((batch + 1 - self._done) * self.images_per_step)
        self._done = batch + 1

    def on_test_begin(self, logs=None):
        if hasattr(self, "_bar"):
            self._trained = time.monotonic()
            self._bar.set_description("evaluating")

    def on_test_batch_end(self, batch, logs=None):
        if self._trained is not None:
            self._compiling.setdefault("evaluation", time.monotonic() - self._trained)

    def on_epoch_end(self, epoch, logs=None):
        self._bar.close()
        seconds = time.monotonic() - self._started
        ended = time.monotonic() if self._trained is None else self._trained
        training = ended - self._started
        steps = self.steps - self.first_step
        compiled = sum(self._compiling.values()) if steps > self._compiled_steps else 0.0
        if compiled:
            training -= self._compiling["training"]
            seconds, steps = seconds - compiled, steps - self._compiled_steps
        self._compiling = dict.fromkeys(self._compiling, 0.0)
        speed = steps * self.images_per_step / training
        self.first_step = 0
        metrics = "  ".join(f"{name} {value}" for name, value in _brief(logs).items())
        left = (self.epochs - epoch - 1) * seconds
        tqdm.write(
            f"epoch {epoch + 1}/{self.epochs}  {seconds:.1f} s  {speed:.0f} images/s  {metrics}  "
            f"left {tqdm.format_interval(left)}"
            + (f"  ({compiled:.1f} s of compiling besides)" if compiled else ""),
            file=self.stream,
        )


def _brief(logs):
    return {name: f"{value:.4g}" for name, value in (logs or {}).items()}


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run with a clear message when the loss is no finite number.

    The loss is the mean of the epoch so far, which is kept on the device and stays no number once
    it was none: it is enough to read it now and then, and before anything is saved.

    Args:
        state_path: of the last good state, for the message.
        every: steps from reading to reading, each of which the device waits for.

    Raises:
        TrainingDivergedError: before anything is saved.
    """

    def __init__(self, state_path, every: int = READ_EVERY):
        super().__init__()
        self.state_path = place(state_path)
        self.every = every
        self._epoch = 0
        self._read = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._read = 0

    def on_train_batch_end(self, batch, logs=None):
        is_last = batch + 1 >= (self.params or {}).get("steps", 0)
        if is_last or batch + 1 - self._read >= self.every:
            self.check(batch, logs)

    def check(self, batch: int, logs):
        """Reads the loss after a step.

        Raises:
            TrainingDivergedError: where it is no finite number.
        """
        self._read = batch + 1
        if math.isfinite(logs["loss"]):
            return
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # JAX keeps the variables away while it trains
        saved = self.state_path if self.state_path.exists() else "none yet"
        raise TrainingDivergedError(
            f"The loss is {logs['loss']} at step {batch + 1} of epoch {self._epoch + 1}, "
            f"learning rate {float(self.model.optimizer.learning_rate):.3g}. "
            f"Last good checkpoint: {saved}. Try a lower learning rate, a longer warm-up, "
            "`clip_norm=1`, or float32."
        )


class Measure(keras.callbacks.Callback):
    """Adds figures to an epoch's metrics that no Keras metric computes; it comes before the others.

    Args:
        figures: called with no argument after each epoch that is evaluated: figures by name.
    """

    def __init__(self, figures: Callable[[], dict[str, float]]):
        super().__init__()
        self.figures = figures

    def on_epoch_end(self, epoch, logs=None):
        if "val_loss" in logs:  # an epoch that is evaluated
            logs.update({f"val_{name}": value for name, value in self.figures().items()})


class Saver(keras.callbacks.Callback):
    """After each epoch: the state to resume from, the history as CSV, and the best weights.

    Args:
        folder: of the run.
        save_best: called with no argument when an epoch is the best so far, in all processes; it
            writes the model.
        history: rows of the epochs before this process.
        monitor: the metric of which the greatest value is the best; among equals, which small
            sets have many of, the least `val_loss` is.
        writes: whether this process is the one that writes; others only keep the history.
        keep: states that are kept, the newest and those before it.
    """

    def __init__(
        self,
        folder,
        save_best,
        history: list[dict],
        monitor: str = "val_accuracy",
        writes: bool = True,
        keep: int = 1,
    ):
        super().__init__()
        self.writes = writes
        self.keep = keep
        self.folder = place(folder)
        self.save_best = save_best
        self.history = history
        self.monitor = monitor

    def _rank(self, row):
        return row[self.monitor], -row.get("val_loss", 0.0)

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            "seconds": round(time.monotonic() - self._started, 2),
            "learning_rate": float(self.model.optimizer.learning_rate),
            **{name: float(value) for name, value in logs.items()},
        }
        evaluated = [old for old in self.history if self.monitor in old]
        best = max(map(self._rank, evaluated), default=(-math.inf,))
        self.history.append(row)
        if self.monitor in row and self._rank(row) > best:
            self.save_best()
        if not self.writes:
            return
        save_state(self.folder / STATE_FILE, self.model, self.history, keep=self.keep)
        with (
            whole_file(self.folder / "history.csv") as path,
            open(path, "w", newline="", encoding="utf-8") as file,
        ):
            names = dict.fromkeys(name for old in self.history for name in old)
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows(self.history)
