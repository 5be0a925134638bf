"""Steps back to a functional model with layers of its own."""

import contextlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_hybrid.keras_private import float32_by_default, renamed
from keras_hybrid.surgery.float32 import float32_config, is_half
from keras_hybrid.surgery.steps import Step, Value, config_of

# Layers of these modules can be made again from their configuration; others may not.
OURS = ("keras.", "keras_hybrid.")


def build(
    steps: Sequence[Step], inputs, outputs, output_names, name: str, input_shape=None
) -> keras.Model:
    """A new model of the steps.

    Args:
        steps: in order.
        inputs: `Value`s in the structure that the model takes.
        outputs: likewise.
        output_names: of the flattened outputs.
        name: of the model.
        input_shape: of its only input, with the batch; None for what it was.

    Raises:
        ValueError: for a layer in half precision that cannot be made again in float32.
    """
    with float32_by_default(), _cheap_variables():
        return _Builder(steps, outputs, output_names).build(inputs, outputs, name, input_shape)


@contextlib.contextmanager
def _cheap_variables():
    """While it lasts, TensorFlow's variables have one name, Keras' keep theirs.

    TensorFlow prepares a kernel for each new name, which takes eight times as long as the rest of a
    variable and stays in memory: a quantised network has thousands.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    def create(next_creator, **options):
        with tf.name_scope(""):  # not that of the layer
            return next_creator(**{**options, "name": "variable"})

    with tf.variable_creator_scope(create):
        yield


class _Builder:
    """One model in the making."""

    def __init__(self, steps, outputs, output_names):
        self.steps = steps
        self.output_names = list(output_names)
        self.names = _unique_names(steps, keras.tree.flatten(outputs), self.output_names)
        self.layers: dict[object, list[tuple[Step, object]]] = {}
        self.tensors = {}

    def build(self, inputs, outputs, name, input_shape):
        for step in self.steps:
            operation = self._operation(step)
            if isinstance(operation, keras.layers.InputLayer):
                tensor = operation.output
                if input_shape is not None:
                    tensor = keras.Input(
                        batch_shape=input_shape, dtype=tensor.dtype, name=operation.name
                    )
                self.tensors[step.output] = tensor
                continue
            given = (
                keras.tree.map_structure(self._tensor, part) for part in (step.args, step.kwargs)
            )
            args, kwargs = given
            results = keras.tree.flatten(operation(*args, **kwargs))
            self.tensors.update(zip(step.outputs, results, strict=True))
            _set_weights(step, operation)
        model = keras.Model(
            keras.tree.map_structure(self._tensor, inputs),
            keras.tree.map_structure(self._tensor, outputs),
            name=name,
        )
        if len(self.output_names) == len(model.outputs):
            model.output_names = self.output_names
        return model

    def _tensor(self, x):
        return self.tensors[x] if isinstance(x, Value) else x

    def _operation(self, step):
        """The layer of a step: one that is there where it is the same layer's equal call."""
        made = self.layers.setdefault((step.operation, step.layer_class), [])
        for other, operation in made:
            if _is_same_layer(step, other):
                return operation
        operation = _new_operation(step, self.names[step])
        made.append((step, operation))
        return operation


def _unique_names(steps, outputs, output_names):
    """Names by step: unique, and those of the outputs the model's, where no other step has them."""
    taken = {step.name for step in steps}
    producers = {value: step for step in steps for value in step.outputs}
    names, used = {}, set()
    for value, name in zip(outputs, output_names, strict=False):
        step = producers[value]
        free = name not in taken and step not in names and len(step.outputs) == 1
        if free and not step.is_a(keras.layers.InputLayer):
            names[step] = name
            used.add(name)
    for step in steps:
        if step in names:
            continue
        name, number = step.name, 0
        while name in used or (number and name in taken):
            number += 1
            name = f"{step.name}_{number}"
        names[step] = name
        used.add(name)
    return names


def _is_same_layer(step, other):
    """Whether two steps of one layer are still one layer: as they were, or edited alike."""
    if step.config is other.config:  # as they were, or given one layer by a pass
        return step.config is not None or bool(getattr(step.operation, "weights", ()))
    if step.config is None or other.config is None or step.call == other.call:
        return False
    is_whole = not step.partial and not other.partial
    if not is_whole and not getattr(step.layer_class, "is_of_all_calls", False):
        return False  # roundings inside are each call's own
    if not step.weights or step.weights.keys() != other.weights.keys():
        return False
    unnamed = ({**x.config, "name": None} for x in (step, other))
    return next(unnamed) == next(unnamed) and all(
        np.array_equal(value, other.weights[name]) for name, value in step.weights.items()
    )


def _new_operation(step, name):
    """The layer or operation of a step, made again where it is a layer."""
    operation = step.operation
    if not isinstance(operation, keras.layers.Layer):
        return operation if operation.name == name else renamed(operation, name)
    untouched = step.config is None and not is_half(operation)
    if untouched and not operation.weights and not type(operation).__module__.startswith(OURS):
        return renamed(operation, name)  # the user's own is called in the user's model alone
    try:
        config = step.config or config_of(operation)
        return step.layer_class.from_config({**float32_config(config), "name": name})
    except Exception as error:
        if untouched:  # a function that Keras cannot write down, a configuration that lacks some
            return renamed(operation, name)
        raise ValueError(
            f"Layer {step.name!r} cannot be made again from its configuration: give its class "
            f"{step.layer_class.__name__} a `get_config` with all arguments of its constructor. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


def _set_weights(step, layer):
    if not isinstance(layer, keras.layers.Layer):
        return
    if step.config is None:
        if layer.weights and layer.weights[0] is not step.operation.weights[0]:
            layer.set_weights(step.operation.get_weights())
        return
    names = [weight.path.rsplit("/", 1)[-1] for weight in layer.weights]
    if step.partial:
        for name, weight in zip(names, layer.weights, strict=True):
            if name in step.weights:
                weight.assign(step.weights[name])
        return
    if sorted(names) != sorted(step.weights):
        raise RuntimeError(
            f"{step.name} needs weights {sorted(names)}, the pass left {sorted(step.weights)}"
        )
    layer.set_weights([step.weights[name] for name in names])
