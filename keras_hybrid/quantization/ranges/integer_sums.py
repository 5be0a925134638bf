"""Sums of integers, rounded to int8 as XNNPACK does."""

from keras import ops


def rounded_to_even(sums, unit, step):
    """A float32 product of integers and the quotient of two steps, rounded to even.

    (`qs8-requantization`, "fp32", of XNNPACK.)

    Args:
        sums: values that lie on whole multiples of `unit`, but for float32.
        unit: their step, float32; over 0; one, or one a channel.
        step: of the grid to be rounded to, float32.

    Returns: whole multiples of `step`, with straight-through gradients.
    """
    scale = unit / step
    return straight_through(sums, lambda x: ops.round(ops.round(x / unit) * scale) * step)


def straight_through(x, function):
    """What a function makes of a tensor, with gradients as if it were the tensor."""
    import tensorflow as tf

    return tf.custom_gradient(lambda x: (function(x), lambda gradient: gradient))(x)
