"""Biases on the grid of int8 kernels' sums: what is trained is what ships, bit for bit."""

from keras import ops

from keras_hybrid.quantization.twins.roundings_around import rounding_before


def rounded_bias(layer, bias, kernel_step, place=None):
    """A bias as a layer's int8 kernel adds it: in steps of the input's times the kernel's.

    Steps are small, a hundredth of the output's or less, but they decide which way the output is
    rounded where it lies between two values, and the layers that follow enlarge the difference.

    Args:
        layer: of a functional model.
        bias: what it adds to its outputs.
        kernel_step: distance of two values of the kernel's grid, by output channel; None where the
            kernel is not on a grid.
        place: which of the layer's calls, where it is called several times.

    Returns: the bias, with straight-through gradients; as it is where there is no grid.
    """
    rounding = rounding_before(layer, place)
    input_step = None if rounding is None else rounding.step()
    if input_step is None or kernel_step is None:
        return bias
    bias = ops.convert_to_tensor(bias)
    step = input_step * kernel_step
    rounded = ops.round(bias / ops.where(step > 0, step, 1.0)) * step
    rounded = ops.where(step > 0, rounded, bias)  # the kernel of a channel may be zeros
    return bias + ops.stop_gradient(rounded - bias)
