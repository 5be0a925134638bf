"""A run that is told to end: it finishes the step, saves its state, and says how to go on."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import keras


class TrainingStoppedError(KeyboardInterrupt):
    """The run was told to end, by Ctrl-C or by SIGTERM, and has saved its state."""


class StopOnSignal(keras.callbacks.Callback):
    """Ends the run after the step in which Ctrl-C or SIGTERM comes; preemption sends the latter.

    A second signal ends it at once.

    Args:
        save: called with the number of steps done in the epoch.
        steps: of an epoch.
        first_step: of the first epoch, where that goes on in its middle.
    """

    def __init__(self, save: Callable[[int], None], steps: int, first_step: int = 0):
        super().__init__()
        self.save = save
        self.steps = steps
        self.first_step = first_step
        self.received = None
        self._epoch = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals are taken, for the length of a block; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old = {
            number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _take(self, number, frame):
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.received is None:
            return
        steps = batch + 1 + self.first_step
        if steps >= self.steps:
            return  # the epoch is whole: it is evaluated and saved first
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # JAX keeps the variables away while it trains
        self.save(steps)
        raise TrainingStoppedError(
            f"Stopped by {self.received} after step {steps} of epoch {self._epoch + 1}, and saved: "
            "the same command goes on from there."
        )

    def on_epoch_end(self, epoch, logs=None):
        self.first_step = 0
        if self.received is not None:  # it came while the epoch was evaluated and saved
            raise TrainingStoppedError(
                f"Stopped by {self.received} after epoch {epoch + 1}, and saved: the same command "
                "goes on from there."
            )
