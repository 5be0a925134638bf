"""The moving average of a run's weights, statistics of batch norms included.

Optimisers average what they train. The statistics of batch norms belong to the weights that they
were seen with, and the authors' programs (timm's `ModelEma`, CVNets' `EMA`) average both alike.
"""

import contextlib

import keras
from keras import ops

from keras_hybrid.keras_private import moving_averages
from keras_hybrid.training.optimization.adamw import warmup_momentum
from keras_hybrid.training.recipe.common import CommonRecipe


@keras.saving.register_keras_serializable("keras_hybrid")
class AverageStatistics(keras.layers.Layer):
    """Hands on its inputs; in training it averages the statistics of batch norms before it.

    A layer, and not a callback, because it then works inside the compiled step of every backend.
    It must come after all of these norms.

    Args:
        norms: batch norms of the same network.
        momentum: of the average, by update of the weights.
        accumulation_steps: batches in an update; norms see each.
        warmup: whether the momentum grows as `ScaledAdamW`'s does with `ema_warmup`.
    """

    def __init__(
        self,
        norms: list[keras.layers.BatchNormalization],
        momentum: float,
        accumulation_steps: int = 1,
        warmup: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.accumulation_steps = accumulation_steps
        self.warmup = warmup
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
        self._batches = self.add_weight(
            shape=(), initializer="zeros", dtype="float32", trainable=False, name="batches"
        )
        self.built = True

    @property
    def pairs(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each statistic with its average."""
        return list(zip(self._sources(), self._averages, strict=True))

    def call(self, inputs, training=False):
        if training:
            momentum = ops.convert_to_tensor(self.momentum, "float32")
            if self.warmup:
                updates = ops.floor(self._batches / self.accumulation_steps)
                momentum = ops.minimum(momentum, warmup_momentum(updates))
            momentum = momentum ** (1 / self.accumulation_steps)
            momentum = ops.where(self._batches > 0, momentum, 0.0)
            for statistic, average in self.pairs:
                average.assign(momentum * average + (1 - momentum) * statistic)
            self._batches.assign(self._batches + 1)
        return inputs

    def compute_output_spec(self, inputs, training=False):
        return keras.tree.map_structure(
            lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype), inputs
        )


def average_statistics(outputs, model: keras.Model, recipe: CommonRecipe):
    """Puts an `AverageStatistics` after outputs of a model, for all of its unfrozen batch norms.

    Args:
        outputs: of a view of the model.
        model: whose batch norms are averaged.
        recipe: with its average.

    Returns: the outputs after it, and the layer.
    """
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    layer = AverageStatistics(
        norms,
        recipe.ema_momentum,
        recipe.accumulation_steps,
        recipe.ema_warmup,
        name="head_average_statistics",
    )
    return layer(outputs), layer


def first_weights_share(recipe: CommonRecipe, updates: int) -> float:
    """Share of the moving average that the first weights still have after a run.

    Args:
        recipe: with its average.
        updates: of the weights, in the whole run.
    """
    share = 1.0
    for update in range(1, updates):
        momentum = recipe.ema_momentum
        if recipe.ema_warmup:
            momentum = min(momentum, warmup_momentum(update))
        share *= momentum
        if share < 1e-9:
            break
    return share


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
