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
    if counts is None:
        return straight_through(sums, lambda x: ops.round(ops.round(x / unit) * scale) * step)
    return straight_through(sums, lambda _, whole: ops.round(whole * scale) * step, counts)


def counted(values, step):
    """How many steps each value on a grid is: whole numbers, with straight-through gradients.

    float32 holds them up to 2**24 exactly, and so their products' sums, in whatever order they are
    added up; of the values themselves, sums of a thousand products are a step off now and then.

    Args:
        values: of a grid.
        step: the grid's, float32; where it is 0, so are the values.
    """
    return straight_through(values / ops.where(step > 0, step, 1.0), ops.round)


def straight_through(x, function, *others):
    """What a function makes of a tensor, with gradients as if it were the tensor.

    Args:
        x: the tensor.
        function: of the tensor and the others.
        others: what else it makes it of, without gradients. In a graph, TensorFlow searches for
            variables from the result to what is given here: not to the graph's beginning.
    """
    import tensorflow as tf

    def computed(x, *others):
        return function(x, *others), lambda gradient: (gradient, *(None,) * len(others))

    return tf.custom_gradient(computed)(x, *others)
