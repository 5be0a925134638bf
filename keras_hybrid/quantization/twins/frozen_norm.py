"""Batch norm inside of a quantised layer: its scale and offset train, its statistics stay."""

import keras
import numpy as np
from keras import ops

BATCH_NORMS = ("folded", "frozen")


@keras.saving.register_keras_serializable("keras_hybrid")
class FrozenBatchNormalization(keras.layers.Layer):
    """Batch norm of the statistics it was given, in training, too, for a quantised kernel.

    The layer that it belongs to multiplies its kernel by `factor` before it rounds it, so that the
    kernel's grid is that of the int8 kernel in the file, and adds `offset`. Symmetric grids scale
    with what they hold: it is as if the rounded kernel's outputs went through batch norm.

    Args:
        epsilon: added to the variance.

    Input and output: any shape, channels last.
    """

    def __init__(self, epsilon: float = 1e-3, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        def weight(name, initializer, trainable=True):
            return self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                initializer=initializer,
                trainable=trainable,
                autocast=False,
            )

        self.gamma = weight("gamma", "ones")
        self.beta = weight("beta", "zeros")
        self.moving_mean = weight("moving_mean", "zeros", trainable=False)
        self.moving_variance = weight("moving_variance", "ones", trainable=False)

    def factor(self):
        """What each channel is multiplied by, (channels,)."""
        return self.gamma / ops.sqrt(self.moving_variance + self.epsilon)

    def offset(self):
        """What is added to each channel then, (channels,)."""
        return self.beta - self.moving_mean * self.factor()

    def call(self, inputs):
        return inputs * self.factor() + self.offset()

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def unfold_batch_norm(step):
    """Takes the batch norm that was folded into a step out again, into the twin that it becomes.

    What other passes made of kernel and bias stays: the kernel takes it, and batch norm's offset.

    Args:
        step: a `Step` whose layer becomes a `QuantizedKernel`; left as it is where no batch norm
            was folded into it.
    """
    from keras_hybrid.surgery.affine import scale_outputs  # not for who imports the package alone

    norm = step.folded_norm
    if norm is None:
        return
    weights = step.edit().weights
    deviation = np.sqrt(norm.moving_variance.astype("float64") + norm.epsilon)
    # A channel that batch norm put to 0 keeps its zeros in the kernel, and can be trained.
    gamma = np.where(norm.gamma == 0, deviation, norm.gamma)
    factor = gamma / deviation
    beta = weights.pop("bias", 0) + norm.moving_mean * factor
    step.config["use_bias"] = False
    scale_outputs(step, 1 / factor)
    step.config["batch_norm"] = FrozenBatchNormalization(norm.epsilon, name=norm.name).get_config()
    weights.update(
        gamma=gamma,
        beta=beta,
        moving_mean=norm.moving_mean,
        moving_variance=norm.moving_variance,
    )
