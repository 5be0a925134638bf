"""Drop path: stochastic depth for one residual branch."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class DropPath(keras.layers.Layer):
    """Zeroes a residual branch for whole examples, in training only.

    Kept examples are divided by the probability of keeping them, so that the expectation stays.

    Args:
        rate: probability of dropping an example's branch, in [0, 1).
        seed: for repeatable draws.

    Input and output: (batch, ...).

    Raises:
        ValueError: for a rate outside [0, 1).

    Reference: Deep Networks with Stochastic Depth (https://arxiv.org/abs/1603.09382).
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: rate={rate}")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        keep = 1.0 - self.rate
        mask_shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        draw = keras.random.uniform(mask_shape, seed=self.seed_generator)
        mask = ops.cast(draw < keep, inputs.dtype)
        return inputs * (mask / keep)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
