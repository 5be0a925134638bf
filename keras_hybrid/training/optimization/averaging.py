"""The moving average of a run's weights, statistics of batch norms included.

Optimisers average what they train. The statistics of batch norms belong to the weights that they
were seen with, and the authors' programs (timm's `ModelEma`, CVNets' `EMA`) average both alike.
"""

import contextlib

import keras
from keras import ops

from keras_hybrid.keras_private import moving_averages


@keras.saving.register_keras_serializable("keras_hybrid")
class AverageStatistics(keras.layers.Layer):
    """Hands on its inputs; in training it averages the statistics of batch norms before it.

    A layer, and not a callback, because it then works inside the compiled step of every backend.
    It must come after all of these norms.

    Args:
        norms: batch norms of the same network.
        momentum: of the average, by batch.
    """

    def __init__(self, norms: list[keras.layers.BatchNormalization], momentum: float, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        sources = [
            variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)
        ]
        self._sources = lambda: sources  # hidden from Keras: they are the norms'
        self._averages = [
            self.add_weight(
                shape=variable.shape,
                initializer="zeros",
                dtype="float32",
                trainable=False,
                autocast=False,
                name=f"average{index}",
            )
            for index, variable in enumerate(sources)
        ]
        self._started = self.add_weight(
            shape=(), initializer="zeros", dtype="float32", trainable=False, name="started"
        )
        self.built = True

    @property
    def pairs(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each statistic with its average."""
        return list(zip(self._sources(), self._averages, strict=True))

    def call(self, inputs, training=False):
        if training:
            momentum = self.momentum * self._started
            for statistic, average in self.pairs:
                average.assign(momentum * average + (1 - momentum) * statistic)
            self._started.assign(ops.ones(()))
        return inputs

    def compute_output_spec(self, inputs, training=False):
        return keras.tree.map_structure(
            lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype), inputs
        )


def average_statistics(outputs, model: keras.Model, momentum: float):
    """Puts an `AverageStatistics` behind outputs of a model, for all of its unfrozen batch norms.

    Returns: the outputs behind it, and the layer.
    """
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    layer = AverageStatistics(norms, momentum, name="head_average_statistics")
    return layer(outputs), layer


class MovingAverage(keras.callbacks.Callback):
    """Evaluates with the moving average of weights and statistics in place of both.

    Differs from Keras' `SwapEMAWeights`: statistics are averaged, too, and the weights return
    after each use.

    Args:
        statistics: the training view's layer.
    """

    def __init__(self, statistics: AverageStatistics):
        super().__init__()
        self.statistics = statistics

    def _pairs(self):
        return [*moving_averages(self.model.optimizer), *self.statistics.pairs]

    def _swap(self):
        for variable, average in self._pairs():
            value = ops.convert_to_numpy(variable)
            variable.assign(ops.convert_to_numpy(average))
            average.assign(value)

    def on_test_begin(self, logs=None):
        self._swap()

    def on_test_end(self, logs=None):
        self._swap()

    @contextlib.contextmanager
    def in_place(self):
        """The averages in place of the weights, for the length of a block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def finalize(self):
        """Puts the averages in place of the weights for good."""
        for variable, average in self._pairs():
            variable.assign(ops.convert_to_numpy(average))
