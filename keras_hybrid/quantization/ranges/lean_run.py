"""A model computed in little memory: no value is kept longer than somebody needs it.

Keras keeps every layer's output until the last layer has run: of 32 images of 256 x 256, these are
gigabytes.
"""

import math
from collections import Counter
from collections.abc import Callable

import keras

from keras_hybrid.keras_private import Call, calls

BYTES = 384 * 2**20  # that one call's values may take


def images_at_a_time(model: keras.Model) -> int | None:
    """As many images as `run_leanly` computes in some hundred megabytes.

    A layer that holds many values of its own while it computes, attention's scores, tells with
    `values_inside(*shapes of its inputs)` how many.

    Args:
        model: functional.

    Returns: one at least; None where sizes are not known.
    """
    sizes, greatest = {}, 1
    order = calls(model)
    wanted = Counter(id(tensor) for call in order for tensor in call.inputs)
    for call in order:
        shapes = [tensor.shape[1:] for tensor in (*call.inputs, *call.outputs)]
        if any(None in shape for shape in shapes):
            return None
        sizes.update((id(tensor), math.prod(tensor.shape[1:])) for tensor in call.outputs)
        inside = getattr(call.operation, "values_inside", lambda *_: 0)
        values = sum(sizes.values()) + inside(*(tensor.shape for tensor in call.inputs))
        greatest = max(greatest, values)
        for tensor in call.inputs:
            wanted[id(tensor)] -= 1
        for tensor in (*call.inputs, *call.outputs):
            if not wanted[id(tensor)]:
                sizes.pop(id(tensor), None)
    return max(1, BYTES // (4 * greatest))


def run_leanly(model: keras.Model, inputs, watch: dict[int, Callable] | None = None):
    """Calls all layers of a functional model in order, as `model(inputs)` does, for their effects.

    Args:
        model: functional; its layers are called as in inference.
        inputs: a batch, or the structure of such that the model takes.
        watch: by the `id` of a tensor of the model, what is called with its value.
    """
    watch = watch or {}
    arrays = keras.tree.flatten(inputs)
    values = {
        id(own): keras.ops.convert_to_tensor(array, own.dtype)
        for own, array in zip(model.inputs, arrays, strict=True)
    }
    for name, value in values.items():
        watch.get(name, _nobody)(value)
    order = [x for x in calls(model) if not isinstance(x.operation, keras.layers.InputLayer)]
    wanted = Counter(id(tensor) for call in order for tensor in call.inputs)
    for call in order:
        outputs = _call(call, values)
        for tensor in call.inputs:
            wanted[id(tensor)] -= 1
            if not wanted[id(tensor)]:
                values.pop(id(tensor), None)
        for tensor, value in zip(call.outputs, keras.tree.flatten(outputs), strict=True):
            watch.get(id(tensor), _nobody)(value)
            if wanted[id(tensor)]:
                values[id(tensor)] = value


def _nobody(value):
    """Whom a value that is not watched is told."""


def _call(call: Call, values):
    def value_of(x):
        return values[id(x)] if keras.utils.is_keras_tensor(x) else x

    args, kwargs = keras.tree.map_structure(value_of, call.args_and_kwargs)
    return call.operation(*args, **kwargs)
