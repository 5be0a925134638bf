"""Ranges that stop moving: the last steps of quantisation-aware training see the shipped grids."""

import keras

from keras_hybrid.keras_private import layers_in_depth
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.twins.kernels import QuantizedKernel


def freeze_ranges(model: keras.Model, frozen: bool = True):
    """Keeps the activations' ranges as they are in training, or lets them move again.

    Kernels' ranges follow the kernels all the time: they are no averages.

    Args:
        model: of `quantize`.
        frozen: whether the ranges stay.
    """
    for layer in layers_in_depth(model):
        if isinstance(layer, FakeQuantize):
            layer.frozen = frozen


class FreezeRanges(keras.callbacks.Callback):
    """Freezes the activations' ranges after a number of steps.

    The step is traced anew then, once. The ranges stay frozen in the saved model, and when it is
    loaded to be trained on.

    Args:
        after_steps: steps of the optimiser; 0 for ranges as calibrated.

    Raises:
        ValueError: for a negative number, and, in training, for a model that is not quantised.
    """

    def __init__(self, after_steps: int):
        super().__init__()
        if after_steps < 0:
            raise ValueError(
                f"`after_steps` must be 0 or more. Received: after_steps={after_steps}"
            )
        self.after_steps = after_steps
        self._done = False

    def on_train_begin(self, logs=None):
        if not any(isinstance(layer, QuantizedKernel) for layer in self.model.layers):
            raise ValueError(
                "`FreezeRanges` is for a model of `quantize`. "
                f"Received: model {self.model.name!r}, not quantised"
            )
        self._freeze_when_due()

    def on_train_batch_end(self, batch, logs=None):
        self._freeze_when_due()

    def _freeze_when_due(self):
        if self._done or int(self.model.optimizer.iterations) < self.after_steps:
            return
        self._done = True
        freeze_ranges(self.model)
        if self.model.train_function is not None:
            self.model.make_train_function(force=True)
