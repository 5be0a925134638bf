"""Quantised twins of group normalization and of normalization to unit length."""

import keras
from keras import ops

from keras_hybrid.quantization.twins.composites import Composite


class ReciprocalRoot(Composite):
    """What the twins share: one over a square root, by look-ups of logarithm and exponential."""

    def build(self, input_shape):
        super().build(input_shape)
        for name in ("squares", "mean_square", "logarithm", "exponent", "inverse"):
            limits = self.squares_limits if name == "squares" else None
            setattr(self, name, self._learned(name, limits=limits))

    def _scaled_by_root(self, x, axes, epsilon, training, reduce):
        """x over the square root of what its squares are reduced to along the axes."""
        self.squares.summed_axes = axes if isinstance(axes, tuple) else (axes,)
        squares = self.squares(x * x, training=training)
        reduced = self.mean_square(reduce(squares, axis=axes, keepdims=True), training=training)
        if training or self.squares.observer is not None:
            # Of 256 values, the least but 0 is far above epsilon: the logarithm's grid is for them.
            reduced = ops.maximum(reduced + epsilon, ops.max(reduced) / 256)
        logarithm = self.logarithm(ops.log(reduced), training=training)
        exponent = self.exponent(logarithm * -0.5, training=training)
        return x * self.inverse(ops.exp(exponent), training=training)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedUnitNormalization(ReciprocalRoot, keras.layers.UnitNormalization):
    """`keras.layers.UnitNormalization` in int8."""

    def call(self, inputs, training=None):
        axes = tuple(self.axis) if isinstance(self.axis, list) else self.axis
        return self._scaled_by_root(inputs, axes, 1e-12, training, ops.sum)


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedGroupNormalization(ReciprocalRoot, keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` over the last axis in int8."""

    def build(self, input_shape):
        super().build(input_shape)
        self.mean = self._learned("mean", symmetric=True)
        self.centered = self._learned("centered", symmetric=True)
        self.normalized = self._learned("normalized")
        self.factors = self._learned("factors")
        self.scaled = self._learned("scaled")
        self.offsets = self._learned("offsets")

    def call(self, inputs, training=None):
        self.check_training(training)
        groups = inputs.shape[-1] if self.groups == -1 else self.groups
        axes = tuple(ops.shape(inputs)[1:-1])
        length = 1
        for axis in axes:
            length = length * axis
        x = ops.reshape(inputs, (-1, length, groups, inputs.shape[-1] // groups))
        mean = self.mean(ops.mean(x, axis=(1, 3), keepdims=True), training=training)
        x = self.centered(x - mean, training=training)
        x = self._scaled_by_root(x, (1, 3), self.epsilon, training, ops.mean)
        x = ops.reshape(x, (-1, *axes, inputs.shape[-1]))
        if self.scale:
            x = self.normalized(x, training=training)
            x = x * self.factors(self.gamma, training=training)
        if self.center:
            x = (self.scaled if self.scale else self.normalized)(x, training=training)
            x = x + self.offsets(self.beta, training=training)
        return x
