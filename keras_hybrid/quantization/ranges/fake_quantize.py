"""Fake quantisation of an activation: values rounded to int8's grid, gradients straight through."""

import keras
import numpy as np
from keras import ops

from keras_hybrid.keras_private import computes_for_keras, layers_in_depth
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.integer_sums import rounded_to_even

UNSEEN = (np.inf, -np.inf)
NOTHING = 1e-5
TIE = 1e-3  # of a step, more than float32 is off


@keras.saving.register_keras_serializable("keras_hybrid")
class FakeQuantize(keras.layers.Layer):
    """Rounds to the 256 steps of a range, which a TFMOT quantiser keeps.

    Args:
        quantizer: a TFMOT `Quantizer`, or its serialized form.
        frozen: whether the range stays as it is in training.
        profile: of the model, where the layer rounds its input; None elsewhere.
        target: the engine that the model is for, likewise.
        limits: None, or values that a learned range lies within, so that it clips as an operator
            before it would.
        output_name: what the model calls the output that it rounds, since a model's own names of
            outputs are those of its layers once it has been saved; None within the model.

    Attributes:
        observer: None, or a function of (layer, tensor) that sees every tensor; the layer then
            passes tensors on as they are. Set by calibration, in eager calls only.
        exact: whether tensors pass on as they are; set for comparisons, in eager calls only.
        summed_axes: None, or the axes that squares are summed over and that nothing else sees, by
            which calibration may clip their range; set by what calls the layer.
        seen: weights, the least and the greatest value that a calibration saw.

    Called with `unit`, the distance of two values that integers make of an inner product before it
    is rounded, where it is known: halves then go where the file's kernel takes them.

    Input and output: any shape.
    """

    def __init__(
        self,
        quantizer,
        frozen: bool = False,
        limits: tuple[float, float] | None = None,
        profile: str | None = None,
        target: str | None = None,
        output_name: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.quantizer = tfmot.deserialize(quantizer)
        self.frozen = frozen
        self.limits = None if limits is None else tuple(limits)
        self.profile = profile
        self.target = target
        self.output_name = output_name
        self.observer = None
        self.exact = False
        self.summed_axes = None
        self.supports_masking = True

    def build(self, input_shape):
        self._range = tfmot.build(self.quantizer, self, self.name, input_shape)
        self.seen = self.add_weight(
            name=f"{self.name}_seen",
            shape=(2,),
            initializer=lambda shape, dtype: ops.convert_to_tensor(UNSEEN, dtype),
            trainable=False,
            autocast=False,
        )

    def call(self, inputs, training=None, unit=None):
        limits = self.fixed_range or self.limits  # it clips, as the operator before it would
        if self.observer is not None:
            inputs = inputs if limits is None else ops.clip(inputs, *limits)
            self.observer(self, inputs)
            return inputs
        if self.exact:
            return inputs if limits is None else ops.clip(inputs, *limits)
        if training and self.limits:
            inputs = ops.clip(inputs, *self.limits)
        if unit is not None and not training and computes_for_keras():
            step = self.step("float64")
            if step is not None:
                inputs = rounded_to_even(inputs, unit, ops.cast(step, "float32"))
        update = bool(training) and not self.frozen
        return tfmot.apply(self.quantizer, inputs, self._range, update)

    @property
    def fixed_range(self) -> tuple[float, float] | None:
        """The range where the quantiser has one for ever."""
        if isinstance(self.quantizer, tfmot.quantizers().FixedQuantizer):
            return self.quantizer.init_min, self.quantizer.init_max
        return None

    @property
    def symmetric(self) -> bool:
        """Whether the range is around 0."""
        return bool(getattr(self.quantizer, "symmetric", False))

    @property
    def has_range(self) -> bool:
        """Whether the range is two variables that calibration may set."""
        return {"min_var", "max_var"} <= set(self._range)

    @property
    def range(self) -> tuple[float, float] | None:
        """The range in use; None where the quantiser keeps something else."""
        if self.fixed_range:
            return self.fixed_range
        if not self.has_range:
            return None
        return float(self._range["min_var"]), float(self._range["max_var"])

    def step(self, dtype: str = "float32"):
        """The distance of two values of the grid, a tensor; None where there is no grid now.

        Args:
            dtype: that it is computed in; the file's is computed in float64.
        """
        if self.observer is not None or self.exact:
            return None
        if not self.fixed_range and not self.has_range:
            return None
        limits = self.fixed_range or tfmot.tensors(self._range, "min_var", "max_var")
        low, high = (ops.cast(x, dtype) for x in limits)
        return (high - low) / tfmot.num_steps(self.quantizer)

    def zero_point(self):
        """The int8 integer that stands for 0, a tensor of float32; of a layer that has a grid."""
        limits = self.fixed_range or tfmot.tensors(self._range, "min_var", "max_var")
        low = ops.cast(limits[0], "float64")
        places = ops.clip(ops.floor(0.5 - low / self.step("float64")), 0.0, 255.0)
        return ops.cast(places - 128, "float32")

    @property
    def seen_range(self) -> tuple[float, float] | None:
        """What calibration saw; None before a calibration."""
        low, high = (float(x) for x in ops.convert_to_numpy(self.seen))
        return (low, high) if low <= high else None

    def set_range(self, low: float, high: float):
        """Sets the range, widened to hold 0, and around 0 for a symmetric quantiser."""
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if high - low < NOTHING:  # always 0: the grid is one that kernels can rescale to
            high = 1.0
        if self.symmetric:
            steps = 2 ** (self.quantizer.num_bits - 1)
            negative = steps - 1 if self.quantizer.narrow_range else steps
            step = max(-low / negative, high / (steps - 1))
            low, high = -step * negative, step * (steps - 1)
        else:
            low, high = clear_of_ties(low, high, tfmot.num_steps(self.quantizer))
        self._range["min_var"].assign(low)
        self._range["max_var"].assign(high)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "quantizer": tfmot.serialize(self.quantizer),
            "frozen": self.frozen,
            "limits": self.limits,
            "profile": self.profile,
            "target": self.target,
            "output_name": self.output_name,
        }


def clear_of_ties(low: float, high: float, steps: int = 255) -> tuple[float, float]:
    """A range as wide, moved by half a step where 0 would lie half way between two values.

    TensorFlow may take it for one of these and the converter for the other: of -1 to 1, of -3 to 7.

    Args:
        low: least value, at most 0.
        high: greatest value, at least 0.
        steps: from the least value to the greatest.
    """
    if low == high:
        return low, high
    step = (high - low) / steps
    places = -low / step
    if abs(places % 1 - 0.5) > TIE:
        return low, high
    shift = (np.floor(places + 0.5) - places) * step
    return float(low - shift), float(high - shift)


def fake_quantizers(model: keras.Model) -> list[FakeQuantize]:
    """All of a model's, those inside its layers included, in the model's order."""
    return [layer for layer in layers_in_depth(model) if isinstance(layer, FakeQuantize)]
