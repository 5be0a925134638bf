"""A functional model as a list of steps that passes can edit, and the way back to a model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_hybrid.keras_private import calls, outputs_structure


class Value:
    """A tensor of the edited model: what one step returns and others take."""

    def __init__(self, shape):
        self.shape = tuple(shape)


@dataclass(eq=False)
class Step:
    """One call of a layer or of an operation of `keras.ops`.

    Attributes:
        operation: the layer or operation of the model it came from; never changed.
        args: positional arguments, Keras tensors replaced by `Value`s.
        kwargs: keyword arguments, likewise.
        outputs: what it returns, flattened.
        layer_class: of the layer that it becomes.
        config: of that layer, once edited; None as long as it is the original's.
        weights: of that layer by name, once edited.
        partial: whether weights that `weights` lacks stay as the layer initialises them.
        folded_norm: the `FoldedNorm` that became part of it; None without.
    """

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list[Value]
    layer_class: type = None
    config: dict | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    partial: bool = False
    folded_norm: Any = None

    def __post_init__(self):
        self.find_inputs()

    def find_inputs(self):
        """Sets `inputs`, the values it takes, flattened; for whoever changes the arguments."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        self.inputs: list[Value] = [x for x in flat if isinstance(x, Value)]

    def take(self, *args):
        """Changes the positional arguments."""
        self.args = args
        self.find_inputs()

    def replace_input(self, old: Value, new: Value):
        """Takes `new` wherever it took `old`."""

        def swap(x):
            return new if x is old else x

        self.args = keras.tree.map_structure(swap, self.args)
        self.kwargs = keras.tree.map_structure(swap, self.kwargs)
        self.find_inputs()

    @property
    def output(self) -> Value:
        """The only output."""
        (output,) = self.outputs
        return output

    @property
    def name(self) -> str:
        return self.config["name"] if self.config else self.operation.name

    def is_a(self, *classes) -> bool:
        """Whether the step's layer is of one of the classes, or of a class derived from them."""
        return issubclass(self.layer_class, classes)

    def edit(self) -> "Step":
        """Makes configuration and weights the step's own, to be changed; returns the step."""
        if self.config is None:
            self.config = self.operation.get_config()
            self.weights = {
                weight.path.rsplit("/", 1)[-1]: value
                for weight, value in zip(
                    self.operation.weights, self.operation.get_weights(), strict=True
                )
            }
        return self

    def setting(self, key):
        """An entry of the layer's configuration."""
        return (self.config or self.operation.get_config()).get(key)

    def weight(self, name) -> np.ndarray | None:
        """A weight by its name, or None where the layer has none of that name."""
        if self.config is not None:
            return self.weights.get(name)
        for weight in self.operation.weights:
            if weight.path.rsplit("/", 1)[-1] == name:
                return np.asarray(keras.ops.convert_to_numpy(weight))
        return None


def new_step(layer: keras.layers.Layer, args, shape, weights=None) -> Step:
    """A step of a new layer; `shape` is of its only output, `weights` by name."""
    return Step(
        operation=layer,
        args=tuple(args),
        kwargs={},
        outputs=[Value(shape)],
        layer_class=type(layer),
        config=layer.get_config(),
        weights=dict(weights or {}),
    )


class EditableModel:
    """The steps of a functional model, in order, with what passes need to change them.

    Args:
        model: a functional model; it is left as it is.

    Raises:
        ValueError: for a model that is not functional.
    """

    def __init__(self, model: keras.Model):
        self.name = model.name
        values = {}

        def value_of(x):
            if not keras.utils.is_keras_tensor(x):
                return x
            return values.setdefault(id(x), Value(x.shape))

        self.steps: list[Step] = []
        for call in calls(model):
            args, kwargs = call.args_and_kwargs
            self.steps.append(
                Step(
                    operation=call.operation,
                    args=keras.tree.map_structure(value_of, args),
                    kwargs=keras.tree.map_structure(value_of, kwargs),
                    outputs=[value_of(x) for x in call.outputs],
                    layer_class=type(call.operation),
                )
            )
        self.inputs = keras.tree.map_structure(value_of, _structure_of_inputs(model))
        self.outputs = keras.tree.map_structure(value_of, _structure_of_outputs(model))
        operations = [step.operation for step in self.steps]
        self._shared = {x for x in operations if operations.count(x) > 1}

    def producer(self, value: Value) -> Step | None:
        """The step that returns the value."""
        return next((step for step in self.steps if value in step.outputs), None)

    def consumers(self, value: Value) -> list[Step]:
        """The steps that take the value; a step that takes it twice stands once."""
        return [step for step in self.steps if value in step.inputs]

    def is_output(self, value: Value) -> bool:
        """Whether the value is an output of the model."""
        return value in keras.tree.flatten(self.outputs)

    def only_consumer(self, value: Value) -> Step | None:
        """The step that alone takes the value, or None."""
        consumers = self.consumers(value)
        return consumers[0] if len(consumers) == 1 and not self.is_output(value) else None

    def editable(self, step: Step | None) -> bool:
        """Whether the step exists and its layer is called once, so that it can be changed."""
        return step is not None and step.operation not in self._shared

    def redirect(self, old: Value, new: Value):
        """Whoever took `old` takes `new`."""

        for step in self.consumers(old):
            step.replace_input(old, new)
        self.outputs = keras.tree.map_structure(lambda x: new if x is old else x, self.outputs)

    def bypass(self, step: Step):
        """Removes a step of one output, whose first input takes the output's place."""
        self.redirect(step.output, step.inputs[0])
        self.steps.remove(step)

    def replace(self, old: Step, *new: Step):
        """Puts new steps in place of one; the last one's output takes the place of the old's."""
        index = self.steps.index(old)
        self.steps[index : index + 1] = new
        self.redirect(old.output, new[-1].output)

    def remove_unused(self):
        """Removes steps whose outputs nobody takes, inputs apart."""
        kept = set(keras.tree.flatten(self.outputs))
        used = []
        for step in reversed(self.steps):
            if step.is_a(keras.layers.InputLayer) or kept.intersection(step.outputs):
                kept.update(step.inputs)
                used.append(step)
        self.steps = used[::-1]

    def to_model(self, input_shape: tuple | None = None) -> keras.Model:
        """A new model with its own layers.

        Args:
            input_shape: of its only input, with the batch; None for what it was.
        """
        layers, tensors = {}, {}

        def tensor_of(x):
            return tensors[x] if isinstance(x, Value) else x

        for step in self.steps:
            if step.operation not in layers:
                layers[step.operation] = _new_operation(step)
            operation = layers[step.operation]
            if isinstance(operation, keras.layers.InputLayer):
                tensor = operation.output
                if input_shape is not None:
                    tensor = keras.Input(batch_shape=input_shape, name=operation.name)
                tensors[step.output] = tensor
                continue
            outputs = operation(
                *keras.tree.map_structure(tensor_of, step.args),
                **keras.tree.map_structure(tensor_of, step.kwargs),
            )
            tensors.update(zip(step.outputs, keras.tree.flatten(outputs), strict=True))
            _set_weights(step, operation)
        return keras.Model(
            keras.tree.map_structure(tensor_of, self.inputs),
            keras.tree.map_structure(tensor_of, self.outputs),
            name=self.name,
        )


def as_pass(edit: Callable[[EditableModel], None]) -> Callable[[keras.Model], keras.Model]:
    """The function model -> new model that makes one edit."""

    def apply(model: keras.Model) -> keras.Model:
        editable = EditableModel(model)
        edit(editable)
        editable.remove_unused()
        return editable.to_model()

    return apply


def _structure_of_inputs(model):
    return model.inputs[0] if len(model.inputs) == 1 else list(model.inputs)


def _structure_of_outputs(model):
    return outputs_structure(model)


def _new_operation(step):
    if not isinstance(step.operation, keras.layers.Layer):
        return step.operation
    config = step.config or step.operation.get_config()
    return step.layer_class.from_config(config)


def _set_weights(step, layer):
    if not isinstance(layer, keras.layers.Layer):
        return
    if step.config is None:
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
