"""Int8 values as the file's kernels round them: Keras and file agree to the last bit.

Fake quantisation has a layer's exact value rounded. A kernel of the file has an integer, rounds on
the way to the output's grid in an arithmetic of its own, and where the value lies half way between
two steps, or nearly, it may give the other one. A few values in a million do, and a network whose
logits hang on single steps (EfficientNet in int8) enlarges these to what is to be seen.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_hybrid.keras_private import computes_for_keras, count_calls
from keras_hybrid.quantization.ranges.integer_sums import (
    counted,
    rounded_to_even,
    straight_through,
)
from keras_hybrid.quantization.twins.roundings_around import rounding_after, rounding_before

NEAR_HALF = 1e-4  # averages of up to thousands of integers are farther from halves if not on them


class Sums:
    """A kernel's sums of products, computed of integers: what XNNPACK makes of them.

    Args:
        layer: a kernel of a functional model, whose outputs are rounded next.
        input_step: the distance of two values of its input's grid.
        kernel_step: that of the kernel's grid, by channel.
        place: which of the layer's calls, where it is called several times.
    """

    def __init__(self, layer, input_step, kernel_step, place):
        self.input_step = input_step
        self.kernel_step = kernel_step
        self.output_step = _step(rounding_after(layer, place))
        unit = input_step * kernel_step
        least = input_step if self.output_step is None else self.output_step
        self.unit = ops.where(unit > 0, unit, least * 2.0**-16)  # a channel's kernel may be zeros

    def of(self, operator, inputs, kernel):
        """The sums, in units.

        Args:
            operator: a function of integers: inputs, and the kernel.
            inputs: on the input's grid.
            kernel: on its own, its last axis that of the outputs.
        """
        return operator(counted(inputs, self.input_step), counted(kernel, self.kernel_step))

    def in_units(self, bias):
        """A bias on the sums' grid, in units."""
        return counted(bias, self.unit)

    def rounded(self, sums, activation):
        """A float32 product of the sums, rounded to even.

        Args:
            sums: in units, with the bias.
            activation: what the kernel does with them, or None.

        Returns: on the output's grid, with straight-through gradients; what is not rounded next,
            or by several, as it is.
        """
        outputs = exact = sums * self.unit
        if activation not in (None, keras.activations.linear):
            outputs = activation(exact)
            sums = ops.where(outputs == exact, sums, ops.round(outputs / self.unit))
        if self.output_step is None:
            return outputs
        return rounded_to_even(outputs, self.unit, self.output_step, counts=sums)


def kernel_sums(layer, kernel_step: Callable, place: int | None = None) -> Sums | None:
    """How a kernel's sums are computed and rounded where the file's kernel has integers.

    Args:
        layer: of a functional model.
        kernel_step: gives the distance of two values of the kernel's grid, by channel; None where
            the kernel is not on a grid. Called where it is needed: a graph that is made for others
            would have to be rid of what computes it.
        place: which of the layer's calls, where it is called several times.

    Returns: None where there is a grid missing, or a graph is made for others (a conversion).
    """
    if not computes_for_keras():
        return None
    input_step = _step(rounding_before(layer, place))
    if input_step is None or (by_channel := kernel_step()) is None:
        return None
    return Sums(layer, input_step, ops.cast(ops.reshape(by_channel, (-1,)), "float32"), place)


def counted_product(first, second, roundings):
    """A matrix product of two tensors that are on grids, computed of their integers.

    Args:
        first, second: tensors, as `keras.ops.matmul` takes them.
        roundings: the layers that rounded them, or None.

    Returns: the product, and how many times the steps' product it is; None for these where a grid
        is missing, or a graph is made for others.
    """
    if (steps := _steps(*roundings)) is None:
        return ops.matmul(first, second), None
    counts = ops.matmul(counted(first, steps[0]), counted(second, steps[1]))
    return counts * math.prod(steps), counts


def rounded_product(layer, products, unit, counts=None):
    """What XNNPACK makes of a product of tensors, the last of what a layer computes.

    Args:
        layer: of a functional model, called once, whose outputs are rounded next.
        products: sums of products of two integers.
        unit: the product of the integers' steps; None where one is not on a grid.
        counts: how many units each is, where it is known exactly.

    Returns: as `Sums.rounded`.
    """
    if unit is None or count_calls(layer) != 1 or not computes_for_keras():
        return products
    step = _step(rounding_after(layer))
    return products if step is None else rounded_to_even(products, unit, step, counts)


def product_of_steps(*roundings):
    """The product of roundings' steps, as kernels multiply it.

    Args:
        roundings: layers, or None.

    Returns: None where there is a grid missing, or a graph is made for others, which has no use for
        it.
    """
    steps = _steps(*roundings)
    return None if steps is None else math.prod(steps)


def rounded_softmax(scores, weights, before, after):
    """What TensorFlow Lite makes of a softmax: a table of exponentials, and float32 in order.

    Args:
        scores: on a grid; the softmax is over the last axis.
        weights: their softmax.
        before: the layer that rounded the scores, or None.
        after: the layer that rounds the weights next, or None.

    Returns: as `Sums.rounded`.
    """
    if (steps := _steps(before, after)) is None:
        return weights
    step, output_step = steps

    def rounded(_, scores):
        counts = counted(scores, step)
        below = (counts - ops.max(counts, axis=-1, keepdims=True)) * step
        # Few in a million are rounded to another float32 than the table's are.
        powers = ops.cast(ops.exp(ops.cast(below, "float64")), "float32")
        total = ops.cumsum(powers, axis=-1)[..., -1:]  # added up one by one
        codes = powers * (1 / (total * output_step))
        whole = ops.floor(codes)
        return ops.minimum(whole + ops.cast(codes - whole >= 0.5, "float32"), 255.0) * output_step

    return straight_through(weights, rounded, scores)


def rounded_floats(layer, outputs):
    """What XNNPACK makes of floats: times the inverse of a step, rounded to even (`f32-qs8-vcvt`).

    Args:
        layer: of a functional model, called once, whose outputs are rounded next.
        outputs: its outputs, computed in float.

    Returns: as `Sums.rounded`.
    """
    if count_calls(layer) != 1 or not computes_for_keras():
        return outputs
    step = _step(rounding_after(layer))
    if step is None:
        return outputs
    return straight_through(outputs, lambda x: ops.round(x * (1 / step)) * step)


def rounded_mean(means, count: int, before, after):
    """What XNNPACK makes of a mean: a float32 product of the integers' sum, and an offset.

    The integers are those of the file, whose zeros the offset is made of: the product and the sum
    are rounded on the way, so that a mean half way between two steps goes either way.

    Args:
        means: of values that are on a grid.
        count: of how many each is.
        before: the layer that rounded the values, or None.
        after: the layer that rounds the means next, or None.

    Returns: as `Sums.rounded`.
    """
    if (steps := _steps(before, after)) is None:
        return means
    input_step, output_step = steps
    zero, output_zero = count * before.zero_point(), after.zero_point()
    scale = (input_step / output_step) * np.float32(1 / np.float32(count))
    offset = output_zero - zero * scale

    def rounded(x):
        total = ops.round(x * (count / input_step)) + zero
        return (ops.round(total * scale + offset) - output_zero) * output_step

    return straight_through(means, rounded)


def rounded_sums_of_rows(x, sums, before, after):
    """What XNNPACK makes of sums over the last axis: as `rounded_mean`, without the division.

    Args:
        x: (..., N), on a grid.
        sums: (..., 1).
        before: the layer that rounded the values, or None.
        after: the layer that rounds the sums next, or None.

    Returns: as `Sums.rounded`.
    """
    if (steps := _steps(before, after)) is None:
        return sums
    step, output_step = steps
    zero, output_zero = x.shape[-1] * before.zero_point(), after.zero_point()
    scale = step / output_step
    offset = output_zero - zero * scale

    def rounded(_, x):
        total = ops.sum(counted(x, step), axis=-1, keepdims=True) + zero
        return (ops.round(total * scale + offset) - output_zero) * output_step

    return straight_through(sums, rounded, x)


def rounded_constant_sums(x, sums, constant: float, before, after):
    """What XNNPACK makes of sums over the last axis times a constant: a kernel of 127s.

    Args:
        x: (..., N), on a grid.
        sums: (..., 1), times the constant.
        constant: over 0.
        before: the layer that rounded the values, or None.
        after: the layer that rounds the sums next, or None.

    Returns: as `Sums.rounded`.
    """
    if (steps := _steps(before, after)) is None:
        return sums
    step, output_step = steps
    counts = ops.sum(counted(x, step), axis=-1, keepdims=True) * 127
    return rounded_to_even(sums, step * np.float32(constant / 127), output_step, counts)


def rounded_total(layer, inputs, outputs, sign: int):
    """What XNNPACK makes of a sum of two: integers times factors of 21 bits, halves upwards.

    Both inputs' steps over the output's, times one power of two that gives the greater of them 21
    bits, are rounded to integers; the sum is shifted back (`qs8-vadd`).

    Args:
        layer: of a functional model, called once, whose outputs are rounded next.
        inputs: two, each on the grid of the rounding before it.
        outputs: their sum, or difference.
        sign: of the second: 1, or -1.

    Returns: as `Sums.rounded`.
    """
    if len(inputs) != 2 or count_calls(layer) != 1 or not computes_for_keras():
        return outputs
    roundings = [rounding_before(layer, number=number) for number in range(2)]
    return rounded_total_of(inputs, roundings, rounding_after(layer), outputs, sign)


def rounded_total_of(inputs, roundings, after, outputs, sign: int):
    """`rounded_total` of what is computed within a layer.

    Args:
        inputs: two.
        roundings: the layers that rounded them, or None.
        after: the layer that rounds the outputs next, or None.
        outputs: their sum, or difference.
        sign: of the second: 1, or -1.

    Returns: as `Sums.rounded`.
    """
    if not computes_for_keras():
        return outputs
    steps = [_step(rounding) for rounding in roundings]
    output_step = _step(after)
    if output_step is None or None in steps:
        return outputs
    factors = [step / output_step for step in steps]
    shift = ops.clip(20 - _exponent(ops.maximum(*factors)), 1.0, 30.0)

    def rounded(_, *inputs):
        first, second = (
            ops.cast(ops.round(x / step), "int32")
            * ops.cast(ops.round(ops.cast(factor, "float64") * _power(shift)), "int32")
            for x, step, factor in zip(inputs, steps, factors, strict=True)
        )
        total = first + second if sign > 0 else first - second
        codes = ops.right_shift(
            total + ops.cast(_power(shift - 1), "int32"), ops.cast(shift, "int32")
        )
        return ops.cast(codes, "float32") * output_step

    return straight_through(outputs, rounded, *inputs)


def rounded_averages(layer, averages):
    """What TensorFlow Lite makes of average pooling: an integer division, halves away from 0.

    It is the integer that is rounded so, of which the grid's zero is another than 0.

    Args:
        layer: of a functional model, called once, whose outputs are on its inputs' grid.
        averages: its outputs.

    Returns: as `Sums.rounded`.
    """
    if count_calls(layer) != 1 or not computes_for_keras():
        return averages
    rounding = rounding_before(layer)
    step = _step(rounding)
    if step is None:
        return averages
    zero = rounding.zero_point()

    def divided(x):
        codes = x / step + zero
        codes = ops.sign(codes) * ops.floor(ops.abs(codes) + 0.5 + NEAR_HALF)
        return (codes - zero) * step

    return straight_through(averages, divided)


def rounded_between_pixels(layer, inputs, values):
    """What XNNPACK makes of a bilinear resize: halves upwards (`s8-ibilinear`).

    Its weights are whole 2048ths. Halves, quarters and so on are such; of thirds, one value in
    thirty is a step off what is nearest.

    Args:
        layer: of a functional model, called once, whose outputs are on its first input's grid.
        inputs: (batch, h, w, channels).
        values: its outputs.

    Returns: as `Sums.rounded`.
    """
    if count_calls(layer) != 1 or not computes_for_keras():
        return values
    step = _step(rounding_before(layer))
    if step is None:
        return values
    axes = list(zip(inputs.shape[1:3], values.shape[1:3], strict=True))
    known = all(None not in axis for axis in axes)
    if not known or all(_are_whole(*axis) for axis in axes):
        return straight_through(values, lambda x: ops.floor(x / step + 0.5 + NEAR_HALF) * step)

    def rounded(_, inputs):
        rows, columns = (_pixel_weights(*axis) for axis in axes)
        x = ops.cast(counted(inputs, step), "float64")
        x = ops.einsum("oh,bhwc->bowc", rows, x)
        x = ops.einsum("ow,bhwc->bhoc", columns, x)
        return ops.cast(ops.floor(x + 0.5), "float32") * step

    return straight_through(values, rounded, inputs)


def rounded_slopes(layer, inputs, outputs, slope: float):
    """What XNNPACK makes of a leaky ReLU: integers times 256ths, halves upwards (`qs8-vlrelu`).

    Args:
        layer: of a functional model, called once, whose outputs are rounded next.
        inputs: on the grid of the rounding before.
        outputs: what the layer computes of them.
        slope: of negative values.

    Returns: as `Sums.rounded`.
    """
    if count_calls(layer) != 1:
        return outputs
    steps = _steps(rounding_before(layer), rounding_after(layer))
    if steps is None:
        return outputs
    step, output_step = steps
    factor = step / output_step
    positive, negative = ops.round(256 * factor), ops.round(256 * (factor * np.float32(slope)))

    def rounded(_, inputs):
        x = ops.round(inputs / step)
        return ops.floor((x * ops.where(x >= 0, positive, negative) + 128) / 256) * output_step

    return straight_through(outputs, rounded, inputs)


def rounded_hard_swish(layer, inputs, outputs):
    """What TensorFlow Lite makes of x * relu6(x + 3) / 6: 16-bit fixed point, from int8 to int8.

    Its arithmetic (`reference_ops::HardSwish`): x in 128ths of the input's step; x on the output's
    grid but for a power of two; relu6 as a number of 15 bits; their product's upper half. About one
    of the 256 values is a step off what is nearest.

    Args:
        layer: of a functional model, called once, whose outputs are rounded next.
        inputs: on the grid of the rounding before.
        outputs: what the layer computes of them.

    Returns: as `Sums.rounded`.
    """
    if count_calls(layer) != 1 or not computes_for_keras():
        return outputs
    steps = [_step(rounding_before(layer)), _step(rounding_after(layer))]
    if None in steps:
        return outputs
    input_step, output_step = steps
    fine = input_step / 128
    scale, scale_shift = _fixed_point(fine / output_step)
    gate, gate_shift = _fixed_point(fine / (3 / 32768))

    def rounded(_, inputs):
        # Integers in float64, which holds all of them exactly.
        x = 128 * ops.round(ops.cast(inputs, "float64") / ops.cast(input_step, "float64"))
        scaled = _high_product(x, scale)
        left, right = ops.maximum(gate_shift, 0), ops.maximum(-gate_shift, 0)
        first = ops.maximum(left - 1, 0)  # the last place is gained after the product
        half = _high_product(_int16(x * _power(first)), gate)
        half = _shifted_right(_int16(half * _power(left - first)), right)
        half = ops.floor((half + 32768) / 2)
        product = ops.trunc(half * scaled / 32768)
        codes = _shifted_right(product * _power(ops.maximum(scale_shift, 0)), -scale_shift)
        return ops.cast(codes, "float32") * output_step

    return straight_through(outputs, rounded, inputs)


def _shares(length, new_length):
    """Of an axis's resized pixels, the pixel before each, and the share of the one after."""
    scale = np.float32(length) / np.float32(new_length)
    centers = (np.arange(new_length, dtype="float32") + np.float32(0.5)) * scale - np.float32(0.5)
    centers = np.clip(centers, 0, length - 1)
    before = centers.astype("int64")
    return before, centers - before


def _are_whole(length, new_length):
    """Whether the shares are whole 2048ths."""
    shares = _shares(length, new_length)[1] * 2048
    return np.array_equal(shares, np.rint(shares))


def _pixel_weights(length, new_length):
    """(new, old) weights of an axis's pixels in its resized ones, in 2048ths as a file has them."""
    before, shares = _shares(length, new_length)
    shares = np.rint(shares.astype("float64") * 2048) / 2048
    weights, places = np.zeros((new_length, length)), np.arange(new_length)
    np.add.at(weights, (places, before), 1 - shares)
    np.add.at(weights, (places, np.minimum(before + 1, length - 1)), shares)
    return weights


def _steps(*roundings):
    """Roundings' steps; None where there is one missing, or a graph is made for others."""
    if not computes_for_keras():
        return None
    steps = [_step(rounding) for rounding in roundings]
    return None if None in steps else steps


def _step(rounding):
    """A rounding's step as the file has it; None where there is none."""
    step = None if rounding is None else rounding.step("float64")
    return None if step is None else ops.cast(step, "float32")


def _fixed_point(factor):
    """A factor as 16 bits and a power of two (`QuantizeMultiplier`, `DownScaleInt32ToInt16`)."""
    shift = _exponent(factor) + 1
    whole = ops.floor(ops.cast(factor, "float64") * _power(31 - shift) + 0.5)
    shift, whole = (
        ops.where(whole == 2.0**31, shift + 1, shift),
        ops.where(whole == 2.0**31, 2.0**30, whole),
    )
    return ops.minimum(ops.floor((whole + 2.0**15) / 2.0**16), 32767.0), shift


def _exponent(x):
    """The greatest whole exponent of a power of two that is not above a number."""
    x = ops.cast(x, "float64")
    exponent = ops.floor(ops.log2(x))
    exponent = exponent + ops.cast(x * _power(-exponent) >= 2, "float64")
    return exponent - ops.cast(x * _power(-exponent) < 1, "float64")


def _high_product(a, b):
    """The upper 16 bits of twice a product, rounded away from 0."""
    product = a * b
    half = ops.cast(ops.where(product >= 0, 2**14, 1 - 2**14), "float64")
    return ops.trunc((product + half) / 2.0**15)


def _shifted_right(x, places):
    """x over a power of two, rounded away from 0; x itself for no places or fewer."""
    divided = x * _power(-ops.maximum(places, 0))
    return ops.sign(divided) * ops.floor(ops.abs(divided) + 0.5)


def _int16(x):
    return ops.clip(x, -32768.0, 32767.0)


def _power(places):
    return ops.power(ops.cast(2.0, "float64"), places)
