"""States inside an epoch: of a run that is told to end, and every few minutes."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import keras


class TrainingStoppedError(KeyboardInterrupt):
    """The run was told to end, by Ctrl-C or by SIGTERM, and has saved its state."""


class StepSaver(keras.callbacks.Callback):
    """Saves inside an epoch, after a step of the optimiser: what has accumulated is not saved.

    Args:
        save: called with the number of steps done in the epoch.
        check: called with the step and its logs before, to refuse what must not be saved.
        steps: of an epoch.
        accumulation_steps: in a step of the optimiser.
        first_step: of the first epoch, where that goes on in its middle.
    """

    def __init__(
        self,
        save: Callable[[int], None],
        check: Callable,
        steps: int,
        accumulation_steps: int = 1,
        first_step: int = 0,
    ):
        super().__init__()
        self.save = save
        self.check = check
        self.steps = steps
        self.accumulation_steps = accumulation_steps
        self.first_step = first_step

    def on_epoch_end(self, epoch, logs=None):
        self.first_step = 0

    def save_after(self, batch: int, logs) -> int | None:
        """Saves, where that can be done after this step: the steps done, or None where not."""
        steps = batch + 1 + self.first_step
        if steps >= self.steps or steps % self.accumulation_steps:
            return None  # a whole epoch is evaluated and saved first
        self.check(batch, logs)
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # JAX keeps the variables away while it trains
        self.save(steps)
        return steps


class SaveByClock(StepSaver):
    """Saves the state every few minutes, so that no more is lost where a process is killed.

    Args:
        minutes: from one state to the next.
        **options: of `StepSaver`.
    """

    def __init__(self, minutes: float, **options):
        super().__init__(**options)
        self.minutes = minutes
        self._last = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._last = time.monotonic()  # an epoch before it is saved

    def on_train_batch_end(self, batch, logs=None):
        is_time = time.monotonic() - self._last >= 60 * self.minutes
        if is_time and self.save_after(batch, logs) is not None:
            self._last = time.monotonic()


class StopOnSignal(StepSaver):
    """Ends the run after the step in which Ctrl-C or SIGTERM comes; preemption sends the latter.

    A second signal ends it at once.

    Args:
        agreed: where several processes train, called after each step with its number in this
            process: whether one of them was told to end, and all know; None where one is alone
            and listens itself.
        **options: of `StepSaver`.
    """

    def __init__(self, agreed: Callable[[int], bool] | None = None, **options):
        super().__init__(**options)
        self.agreed = agreed
        self.received = None
        self._epoch = 0
        self._calls = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals are taken, for the length of a block; only the main thread can."""
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or self.agreed is not None:
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
        self._calls += 1
        if self.agreed is not None and self.received is None and self.agreed(self._calls):
            self.received = "SIGTERM"
        if self.received is None:
            return
        steps = self.save_after(batch, logs)
        if steps is not None:
            raise TrainingStoppedError(
                f"Stopped by {self.received} after step {steps} of epoch {self._epoch + 1}, and "
                "saved: the same command goes on from there."
            )

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.received is not None:  # it came while the epoch was evaluated and saved
            raise TrainingStoppedError(
                f"Stopped by {self.received} after epoch {epoch + 1}, and saved: the same command "
                "goes on from there."
            )
