"""Sums of integers, rounded to int8 as XNNPACK does."""

from keras import ops


def rounded_to_even(sums, unit, step, counts=None):
    """A float32 product of integers and the quotient of two steps, rounded to even.

    (`qs8-requantization`, "fp32", of XNNPACK.)

    Args:
        sums: values that lie on whole multiples of `unit`, but for float32.
        unit: their step, float32; over 0; one, or one a channel.
        step: of the grid to be rounded to, float32.
        counts: these multiples, where they are known exactly.

    Returns: whole multiples of `step`, with straight-through gradients.
    """
    scale = unit / step

    def rounded(x):
        whole = ops.round(x / unit) if counts is None else counts
        return ops.round(whole * scale) * step

    return straight_through(sums, rounded)


def counted(values, step):
    """How many steps each value on a grid is: whole numbers, with straight-through gradients.

    float32 holds them up to 2**24 exactly, and so their products' sums, in whatever order they are
    added up; of the values themselves, sums of a thousand products are a step off now and then.

    Args:
        values: of a grid.
        step: the grid's, float32; where it is 0, so are the values.
    """
    return straight_through(values / ops.where(step > 0, step, 1.0), ops.round)


def straight_through(x, function):
    """What a function makes of a tensor, with gradients as if it were the tensor."""
    import tensorflow as tf

    return tf.custom_gradient(lambda x: (function(x), lambda gradient: gradient))(x)
