"""Which roundings stand around a layer: what it takes is on the one's grid, what it gives goes
through the other."""

import keras

from keras_hybrid.keras_private import (
    computed_from,
    consumers,
    count_calls,
    input_of,
    output_of,
    producer,
)
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize


def rounding_before(
    layer: keras.layers.Layer, place: int | None = None, number: int = 0
) -> FakeQuantize | None:
    """The layer that rounded what a layer takes; None where nothing did, or outside of a model.

    Args:
        layer: of a functional model.
        place: which of its calls, where it is called several times.
        number: of its inputs.
    """
    tensor = input_of(layer, number) if place is None else input_of(layer, number, place=place)
    while tensor is not None:
        operation = producer(tensor)
        if isinstance(operation, FakeQuantize):
            return operation
        inside = getattr(operation, "output_rounding", None)
        if inside is not None:
            return inside
        tensor = next(iter(computed_from(tensor)), None)  # only moved about since
    return None


def rounding_after(layer: keras.layers.Layer, place: int | None = None) -> FakeQuantize | None:
    """The layer that alone takes what a layer gives, clipped at most, and rounds it.

    Args:
        layer: of a functional model.
        place: which of its calls, where it is called several times.

    Returns: None where others take it, too, nothing rounds it, or outside of a model.
    """
    tensor = output_of(layer) if place is None else output_of(layer, place=place)
    while tensor is not None:
        takers = consumers(tensor)
        if len(takers) != 1:
            return None
        if isinstance(takers[0], FakeQuantize):
            return takers[0]
        if not _clips(takers[0]):
            return None
        tensor = output_of(takers[0])
    return None


def activation_after(rounding: FakeQuantize):
    """What alone takes a rounded value, if it computes a function of each by itself.

    Returns: a function of an array to an array; None where there is none such, where the value is
        an output of the model, and of a layer that rounds several values on one grid.
    """
    if count_calls(rounding) != 1 or rounding.output_name is not None:
        return None
    tensor = output_of(rounding)
    takers = [] if tensor is None else consumers(tensor)
    if len(takers) != 1 or not isinstance(takers[0], keras.layers.Activation):
        return None
    function = takers[0].activation
    if function in (keras.activations.softmax, keras.activations.log_softmax):
        return None
    return lambda values: keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(values)))


def _clips(operation):
    """Whether it is what kernels may do on the way out: nothing else stands before a rounding."""
    if isinstance(operation, keras.layers.Activation):
        clipping = (keras.activations.relu, keras.activations.relu6, keras.activations.linear)
        return operation.activation in clipping
    if isinstance(operation, keras.layers.ReLU):
        return True
    return type(operation).__name__ in ("Relu", "Relu6")
