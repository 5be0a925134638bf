"""Callbacks of `fit` that bring metrics from the device only when one of them reads them.

Keras turns the metrics of every step into Python's numbers before it calls any callback: the host
then waits for the device at each step, and the device for the host.
"""

from collections.abc import Iterator, Mapping

import keras


class StepLogs(Mapping):
    """The metrics of a step by name, as numbers; a value is waited for when it is asked for.

    Args:
        tensors: from the device.
    """

    def __init__(self, tensors: Mapping):
        self._tensors = tensors

    def __getitem__(self, name: str) -> float:
        value = self._tensors[name]
        return value if isinstance(value, float) else float(keras.ops.convert_to_numpy(value))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class StepCallbacks(keras.callbacks.CallbackList):
    """Callbacks for `fit`, which get `StepLogs` after each step.

    Args:
        callbacks: in the order in which they are called.
        model: that is fitted.
        epochs: in all.
        steps: of an epoch.
    """

    def __init__(
        self,
        callbacks: list[keras.callbacks.Callback],
        model: keras.Model,
        epochs: int,
        steps: int,
    ):
        super().__init__(
            callbacks, add_history=True, model=model, epochs=epochs, steps=steps, verbose=0
        )

    def on_train_batch_begin(self, batch, logs=None):
        for callback in self.callbacks:
            callback.on_train_batch_begin(batch)

    def on_train_batch_end(self, batch, logs=None):
        logs = StepLogs(logs)
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        logs = StepLogs(logs)
        for callback in self.callbacks:
            callback.on_test_batch_end(batch, logs)
