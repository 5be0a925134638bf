"""A model computed in little memory: no value is kept longer than somebody needs it.

Keras keeps every layer's output until the last layer has run: of 32 images of 256 x 256, these are
gigabytes.
"""

from collections import Counter

import keras

from keras_hybrid.keras_private import Call, calls


def run_leanly(model: keras.Model, inputs):
    """Calls all layers of a functional model in order, as `model(inputs)` does, for their effects.

    Args:
        model: functional; its layers are called as in inference.
        inputs: a batch, or the structure of such that the model takes.
    """
    arrays = keras.tree.flatten(inputs)
    values = {
        id(own): keras.ops.convert_to_tensor(array, own.dtype)
        for own, array in zip(model.inputs, arrays, strict=True)
    }
    order = [x for x in calls(model) if not isinstance(x.operation, keras.layers.InputLayer)]
    wanted = Counter(id(tensor) for call in order for tensor in call.inputs)
    for call in order:
        outputs = _call(call, values)
        for tensor in call.inputs:
            wanted[id(tensor)] -= 1
            if not wanted[id(tensor)]:
                values.pop(id(tensor), None)
        for tensor, value in zip(call.outputs, keras.tree.flatten(outputs), strict=True):
            if wanted[id(tensor)]:
                values[id(tensor)] = value


def _call(call: Call, values):
    def value_of(x):
        return values[id(x)] if keras.utils.is_keras_tensor(x) else x

    args, kwargs = keras.tree.map_structure(value_of, call.args_and_kwargs)
    return call.operation(*args, **kwargs)
