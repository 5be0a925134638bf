"""Batch norms while training: fused, or with their statistics kept; saved ones are Keras' layers.

Keras spells a training batch norm out in some twenty operations, forwards and backwards: a third of
a training step of MobileViT-XXS on a CPU.
"""

import keras
from keras import ops

from keras_hybrid.keras_private import share_reduction_axes


@keras.saving.register_keras_serializable("keras_hybrid")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of maps, trained by a fused kernel.

    Same arguments, weights and results; for the TensorFlow backend.

    Input and output: (batch, H, W, channels).
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable) or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        x = ops.cast(inputs, "float32")
        channels = (x.shape[-1],)
        x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=ops.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=ops.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=self.epsilon,
        )
        # The kernel's variance is that of a sample; Keras keeps the batch's own.
        count = ops.cast(tf.size(x), "float32") / channels[0]
        variance = variance * ((count - 1) / count)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return ops.cast(x, self.compute_dtype)


@keras.saving.register_keras_serializable("keras_hybrid")
class FrozenStatisticsNormalization(keras.layers.BatchNormalization):
    """Batch norm that keeps its statistics in training, while its scale and offset train.

    `trainable = False` of Keras' layer would freeze these, too. Same arguments and weights.
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def _is_fusible(layer):
    return (
        type(layer) is keras.layers.BatchNormalization
        and len(layer.input.shape) == 4
        and layer.axis in (-1, 3)
        and not getattr(layer, "renorm", False)  # Keras 3.12 has none
        and not layer.synchronized
    )


def _like(norm, kind):
    """A layer of another class with the norm's own variables."""
    layer = kind.from_config(norm.get_config())
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        setattr(layer, name, getattr(norm, name))
    share_reduction_axes(norm, layer)
    layer.input_spec = norm.input_spec
    layer.trainable = norm.trainable
    layer.built = True
    return layer


def training_norms(model: keras.Model, keeps_statistics=lambda layer: False) -> keras.Model:
    """The model with the batch norms that training needs; all else and all variables are its own.

    Args:
        model: functional.
        keeps_statistics: from a batch norm to whether its statistics stay as they are.

    Returns: the model itself where no norm becomes another, as on other backends than TensorFlow,
        where they are not fused.
    """
    is_tensorflow = keras.backend.backend() == "tensorflow"

    def replaced(layer):
        if not isinstance(layer, keras.layers.BatchNormalization):
            return layer
        if keeps_statistics(layer):
            return _like(layer, FrozenStatisticsNormalization)
        if is_tensorflow and _is_fusible(layer):
            return _like(layer, FusedBatchNormalization)
        return layer

    if not is_tensorflow and not any(
        isinstance(layer, keras.layers.BatchNormalization) and keeps_statistics(layer)
        for layer in model.layers
    ):
        return model
    return keras.models.clone_model(model, clone_function=replaced)
