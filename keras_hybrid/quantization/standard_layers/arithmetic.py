"""Sums, products and quotients with constants, and what is made of several inputs."""

import math

import keras
import numpy as np
from keras import layers

from keras_hybrid.quantization.standard_layers.steps import argument, step_of
from keras_hybrid.quantization.twins.plain import Clip, Reverse
from keras_hybrid.surgery.editable_model import Step, Value


def average(step: Step) -> list[Step]:
    """The sum, times one over their number."""
    total = step_of(layers.Add(name=f"{step.name}_sum"), list(step.args[0]))
    mean = layers.Rescaling(1 / len(step.args[0]), name=step.name)
    return [total, step_of(mean, total.output)]


def quotient(step: Step) -> list[Step] | None:
    """A product with one over a constant."""
    first, second = argument(step, 0, "x1"), argument(step, 1, "x2")
    divisor = _constant(second, step)
    if not isinstance(first, Value) or divisor is None or np.any(divisor == 0):
        return None
    return [step_of(layers.Rescaling((1 / divisor).tolist(), name=step.name), first)]


def linear(step: Step) -> list[Step] | None:
    """A sum, difference or product: of two tensors, or with a constant, one number or one a
    channel."""
    first, second = argument(step, 0, "x1"), argument(step, 1, "x2")
    if isinstance(first, Value) and isinstance(second, Value):
        if len(first.shape) != len(second.shape):
            return None
        merge = getattr(layers, type(step.operation).__name__)
        return [step_of(merge(name=step.name), [first, second])]
    if not isinstance(first, Value) and not isinstance(second, Value):
        return None
    value, constant = (first, second) if isinstance(first, Value) else (second, first)
    constant = _constant(constant, step)
    if constant is None:
        return None
    kind = type(step.operation).__name__
    factor, offset = 1.0, 0.0
    if kind == "Multiply":
        factor = constant.tolist()
    elif kind == "Add":
        offset = constant.tolist()
    elif value is first:
        offset = (-constant).tolist()
    else:
        factor, offset = -1.0, constant.tolist()
    return [step_of(layers.Rescaling(factor, offset, name=step.name), value)]


def negative(step: Step) -> list[Step]:
    """A product with -1."""
    return [step_of(layers.Rescaling(-1.0, name=step.name), step.inputs[0])]


def square(step: Step) -> list[Step]:
    """A product with itself."""
    return [step_of(layers.Multiply(name=step.name), [step.inputs[0]] * 2)]


def flipped(step: Step) -> list[Step] | None:
    """`keras.ops.flip` along axes other than the batch's."""
    axis = step.operation.axis
    if axis is None:
        return None
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if any(x % len(step.output.shape) == 0 for x in axes):
        return None
    return [step_of(Reverse(axes, name=step.name), step.inputs[0])]


def extremum(step: Step) -> list[Step] | None:
    """The greater or the lesser of a tensor and a number: clipping."""
    first, second = argument(step, 0, "x1"), argument(step, 1, "x2")
    is_maximum = type(step.operation).__name__ == "Maximum"
    if isinstance(first, Value) and isinstance(second, Value):
        if first.shape != second.shape:
            return None
        kind = layers.Maximum if is_maximum else layers.Minimum
        return [step_of(kind(name=step.name), [first, second])]
    value, bound = (first, second) if isinstance(first, Value) else (second, first)
    bound = np.asarray(bound, "float64")
    if bound.size != 1:
        return None
    bounds = (float(bound), None) if is_maximum else (None, float(bound))
    return _clipped(step, value, *bounds)


def clip(step: Step) -> list[Step] | None:
    """`keras.ops.clip` to numbers."""
    operation = step.operation
    low, high = (np.asarray(x, "float64") for x in (operation.x_min, operation.x_max))
    if low.size != 1 or high.size != 1:
        return None
    return _clipped(step, step.inputs[0], float(low), float(high))


def of_single_values(step: Step) -> list[Step] | None:
    """Means, sums and greatest of single values: these, in another shape at most."""
    before, after = step.inputs[0].shape[1:], step.output.shape[1:]
    if None in (*before, *after) or math.prod(before) != math.prod(after):
        return None
    return [step_of(layers.Reshape(after, name=step.name), step.inputs[0])]


def rectified_operation(step: Step) -> list[Step]:
    """`keras.ops.relu` and `keras.ops.relu6`."""
    high = 6.0 if type(step.operation).__name__ == "Relu6" else None
    return [step_of(layers.ReLU(high, name=step.name), step.inputs[0])]


def rectified(step: Step) -> list[Step] | None:
    """`keras.layers.ReLU` with another maximum than 6, or a slope."""
    high, slope = step.setting("max_value"), step.setting("negative_slope")
    if step.setting("threshold"):
        return None
    if not slope and high in (None, 6, 6.0):
        return None
    if not slope:
        return _clipped(step, step.inputs[0], 0.0, high)
    leaky = layers.LeakyReLU(slope, name=step.name if high is None else f"{step.name}_leaky")
    first = step_of(leaky, step.inputs[0])
    if high is None:
        return [first]
    return [first, *(_clipped(step, first.output, None, high) or ())]


def _clipped(step, value, low, high):
    """Clipping; only of ranges that hold 0, as int8's do."""
    if (low is not None and low > 0) or (high is not None and high < 0):
        return None
    if (low, high) == (0, None):
        return [step_of(layers.ReLU(name=step.name), value)]
    if (low, high) == (0, 6):
        return [step_of(layers.ReLU(6.0, name=step.name), value)]
    return [step_of(Clip(low, high, name=step.name), value)]


def _constant(x, step):
    """A constant as an array of one number or one a channel; None for others."""
    if x is None or isinstance(x, Value):
        return None
    array = np.asarray(keras.ops.convert_to_numpy(x), "float64")
    channels = step.output.shape[-1]
    if array.size == 1:
        return array.reshape(())
    return array.reshape(-1) if array.size == array.shape[-1] == channels else None
