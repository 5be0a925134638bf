"""Layers of stock Keras in terms of operators that TFLite has in int16, too."""

import math

import keras
from keras import layers, ops

from keras_hybrid.quantization.rules import activation_name
from keras_hybrid.quantization.standard_layers.activations import edit_activation_functions
from keras_hybrid.quantization.standard_layers.rewrite import edit_standard_layers
from keras_hybrid.quantization.standard_layers.steps import step_of, weights_of
from keras_hybrid.quantization.twins.plain import Clip, ExponentialLinear
from keras_hybrid.surgery.editable_model import EditableModel, Step


def edit_layers_for_int16(model: EditableModel) -> None:
    """Has stock layers do without NEG, SQUARE, ELU, PRELU, RELU_N1_TO_1 and HARD_SWISH.

    And softplus, which the converter writes as log(1 + exp(x)), without exponentials of large
    numbers: their step is so wide that it leaves nothing of the others.
    """
    edit_standard_layers(model, {}, HAVE_OPERATORS)
    edit_activation_functions(model, ("softplus",))
    for step in list(model.steps):
        rewrite = LAYERS.get(step.layer_class)
        if not step.is_a(keras.layers.Layer):
            rewrite = OPERATIONS.get(step.layer_class.__name__)
        new = None if rewrite is None or not model.editable(step) else rewrite(step)
        if new:
            model.replace(step, *new)


def exponential_linear(step: Step) -> list[Step]:
    """relu(x) + alpha * (exp(-relu(-x)) - 1)."""
    value, name = step.inputs[0], step.name
    positive, negative = _halves(value, name)
    below = step_of(layers.Rescaling(-1.0, name=f"{name}_below"), negative[-1].output)
    curve = step_of(layers.Activation("exponential", name=f"{name}_curve"), below.output)
    alpha = step.setting("alpha")
    scaled = step_of(layers.Rescaling(alpha, -alpha, name=f"{name}_scaled"), curve.output)
    total = step_of(layers.Add(name=name), [positive.output, scaled.output])
    return [positive, *negative, below, curve, scaled, total]


def learned_slopes(step: Step) -> list[Step]:
    """relu(x) - alpha * relu(-x)."""
    positive, negative = _halves(step.inputs[0], step.name)
    slopes = -step.weight("alpha")
    scaled = Factors(slopes.tolist(), name=f"{step.name}_scaled")
    scaled = step_of(scaled, negative[-1].output)
    total = step_of(layers.Add(name=step.name), [positive.output, scaled.output])
    return [positive, *negative, scaled, total]


def clip(step: Step) -> list[Step] | None:
    """A clip from -1 to 1, which the converter has one operator for."""
    bounds = step.setting("low"), step.setting("high")
    return _clipped_to_one(step) if bounds == (-1.0, 1.0) else None


def activation(step: Step) -> list[Step] | None:
    """A clip from -1 to 1 or a softplus, as an activation."""
    name = activation_name(step.operation.activation)
    if name == "softplus":
        return [step_of(PlainSoftplus(name=step.name), step.inputs[0])]
    return _clipped_to_one(step) if name == "hard_tanh" else None


def _clipped_to_one(step):
    """min(relu(x + 1), 2) - 1."""
    shifted = layers.Rescaling(1.0, 1.0, name=f"{step.name}_shifted")
    shifted = step_of(shifted, step.inputs[0])
    clipped = step_of(Clip(0.0, 2.0, name=f"{step.name}_clipped"), shifted.output)
    return [shifted, clipped, step_of(layers.Rescaling(1.0, -1.0, name=step.name), clipped.output)]


def group_norm(step: Step) -> list[Step] | None:
    """Group normalization over the last axis."""
    if step.setting("axis") not in (-1, len(step.output.shape) - 1):
        return None
    config = {**step.operation.get_config(), "name": step.name}
    layer = PlainGroupNormalization.from_config(config)
    return [step_of(layer, step.inputs[0], weights_of(step))]


def unit_norm(step: Step) -> list[Step]:
    """Normalization to unit length."""
    axis = step.setting("axis")
    axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    return [step_of(PlainUnitNormalization(axes, name=step.name), step.inputs[0])]


def total(step: Step) -> list[Step] | None:
    """`keras.ops.sum`, by the mean: the converter gives a sum its input's range, and clips it."""
    axis, rank = step.operation.axis, len(step.inputs[0].shape)
    if axis is None:
        return None
    axes = tuple(x % rank for x in ([axis] if isinstance(axis, int) else axis))
    if 0 in axes:
        return None
    layer = TotalByMean(axes, step.operation.keepdims, name=step.name)
    return [step_of(layer, step.inputs[0])]


def _halves(value, name):
    """Steps of relu(x), and of relu(-x)."""
    positive = step_of(layers.ReLU(name=f"{name}_positive"), value)
    turned = step_of(layers.Rescaling(-1.0, name=f"{name}_turned"), value)
    negative = step_of(layers.ReLU(name=f"{name}_negative"), turned.output)
    return positive, [turned, negative]


# Written for int8 by what lacks an operator in int16 (DEPTH_TO_SPACE), and have one of their own.
HAVE_OPERATORS = (layers.Conv2DTranspose,)

LAYERS = {
    ExponentialLinear: exponential_linear,
    layers.PReLU: learned_slopes,
    Clip: clip,
    layers.Activation: activation,
    layers.GroupNormalization: group_norm,
    layers.UnitNormalization: unit_norm,
}
OPERATIONS = {"Sum": total}


@keras.saving.register_keras_serializable("keras_hybrid")
class Factors(layers.Layer):
    """A product with constants of any shape that broadcasts.

    Args:
        factors: nested lists of numbers.

    Input and output: any shape.
    """

    def __init__(self, factors: list, **kwargs):
        super().__init__(**kwargs)
        self.factors = factors

    def call(self, inputs):
        return inputs * ops.convert_to_tensor(self.factors, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "factors": self.factors}


@keras.saving.register_keras_serializable("keras_hybrid")
class PlainSoftplus(layers.Layer):
    """log(1 + exp(x)), as relu(x) + log(1 + exp(-|x|)).

    Input and output: any shape.
    """

    def call(self, inputs):
        positive = ops.relu(inputs)
        magnitude = positive + ops.relu(inputs * -1.0)
        return positive + ops.log(1.0 + ops.exp(magnitude * -1.0))

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_hybrid")
class PlainGroupNormalization(layers.GroupNormalization):
    """`keras.layers.GroupNormalization` over the last axis, by means, products and differences."""

    def call(self, inputs):
        groups = inputs.shape[-1] if self.groups == -1 else self.groups
        axes = tuple(ops.shape(inputs)[1:-1])
        x = ops.reshape(inputs, (ops.shape(inputs)[0], -1, groups, inputs.shape[-1] // groups))
        x = x - ops.mean(x, axis=(1, 3), keepdims=True)
        x = x * ops.rsqrt(ops.mean(x * x, axis=(1, 3), keepdims=True) + self.epsilon)
        x = ops.reshape(x, (-1, *axes, inputs.shape[-1]))
        if self.scale:
            x = x * self.gamma
        return x + self.beta if self.center else x


@keras.saving.register_keras_serializable("keras_hybrid")
class TotalByMean(layers.Layer):
    """A sum, computed as the mean times the number of values.

    Args:
        axes: along which; not the batch's.
        keepdims: whether they stay, of length 1.

    Input: any shape. Output: likewise without the axes.
    """

    def __init__(self, axes: tuple[int, ...], keepdims: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.axes = tuple(axes)
        self.keepdims = keepdims

    def call(self, inputs):
        number = math.prod(inputs.shape[axis] for axis in self.axes)
        return ops.mean(inputs, axis=self.axes, keepdims=self.keepdims) * float(number)

    def compute_output_spec(self, inputs):
        return ops.sum(inputs, self.axes, self.keepdims)

    def compute_output_shape(self, input_shape):
        lengths = enumerate(input_shape)
        if self.keepdims:
            return tuple(1 if n in self.axes else length for n, length in lengths)
        return tuple(length for n, length in lengths if n not in self.axes)

    def get_config(self):
        return {**super().get_config(), "axes": self.axes, "keepdims": self.keepdims}


@keras.saving.register_keras_serializable("keras_hybrid")
class PlainUnitNormalization(layers.Layer):
    """`keras.layers.UnitNormalization` by means and products.

    Args:
        axes: along which.
        least: of the squares' mean; what has less becomes shorter.

    Input and output: any shape.
    """

    def __init__(self, axes: tuple[int, ...], least: float = 1e-12, **kwargs):
        super().__init__(**kwargs)
        self.axes = tuple(axes)
        self.least = least

    def call(self, inputs):
        number = math.prod(inputs.shape[axis] for axis in self.axes)
        mean_square = ops.mean(inputs * inputs, axis=self.axes, keepdims=True)
        mean_square = ops.maximum(mean_square, self.least)
        return inputs * (ops.rsqrt(mean_square) * number**-0.5)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axes": self.axes, "least": self.least}
