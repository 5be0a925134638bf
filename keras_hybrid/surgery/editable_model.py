"""A functional model as a list of steps that passes can edit, and the way back to a model."""

from collections import Counter, defaultdict
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
        origin: names of the layers of the user's model that it was made of, whatever passes have
            called it since. A step that a pass makes has the origin of the step in whose place it
            comes, or that it comes after, if it is not given one.
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
    origin: tuple[str, ...] = ()

    def __post_init__(self):
        self._model = None  # the `EditableModel` that has it, to be told of other inputs
        self._find_inputs()

    def _find_inputs(self):
        """Sets `inputs`, the values it takes, flattened."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        if self._model is not None:
            self._model._unlink_inputs(self)
        self.inputs: list[Value] = [x for x in flat if isinstance(x, Value)]
        if self._model is not None:
            self._model._link_inputs(self)

    def take(self, *args):
        """Changes the positional arguments."""
        self.args = args
        self._find_inputs()

    def replace_input(self, old: Value, new: Value):
        """Takes `new` wherever it took `old`."""

        def swap(x):
            return new if x is old else x

        self.args = keras.tree.map_structure(swap, self.args)
        self.kwargs = keras.tree.map_structure(swap, self.kwargs)
        self._find_inputs()

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


def new_step(layer: keras.layers.Layer, args, shape, weights=None, origin=()) -> Step:
    """A step of a new layer.

    Args:
        layer: not called yet.
        args: its positional arguments, with `Value`s for tensors.
        shape: of its only output.
        weights: of the layer, by name.
        origin: of the step; empty for that of its neighbour.
    """
    return Step(
        operation=layer,
        args=tuple(args),
        kwargs={},
        outputs=[Value(shape)],
        layer_class=type(layer),
        config=layer.get_config(),
        weights=dict(weights or {}),
        origin=tuple(origin),
    )


class EditableModel:
    """The steps of a functional model, in order, with what passes need to change them.

    Who computes a value and who takes it is looked up in maps, which the methods keep.

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

        self._steps: list[Step] = []
        self._order: dict[Step, int] | None = None  # None: to be counted again
        self._producers: dict[Value, Step] = {}
        self._consumers: dict[Value, set[Step]] = defaultdict(set)
        for call in calls(model):
            args, kwargs = call.args_and_kwargs
            self._add(
                len(self._steps),
                Step(
                    operation=call.operation,
                    args=keras.tree.map_structure(value_of, args),
                    kwargs=keras.tree.map_structure(value_of, kwargs),
                    outputs=[value_of(x) for x in call.outputs],
                    layer_class=type(call.operation),
                    origin=(call.operation.name,),
                ),
            )
        self.inputs = keras.tree.map_structure(value_of, _structure_of_inputs(model))
        self.outputs = keras.tree.map_structure(value_of, _structure_of_outputs(model))
        times = Counter(step.operation for step in self._steps)
        self._shared = {operation for operation, count in times.items() if count > 1}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, each after those whose outputs it takes. A copy: edits leave it as it is."""
        return tuple(self._steps)

    def position(self, step: Step) -> int:
        """The step's place in the order."""
        if self._order is None:
            self._order = {step: index for index, step in enumerate(self._steps)}
        return self._order[step]

    def producer(self, value: Value) -> Step | None:
        """The step that returns the value."""
        return self._producers.get(value)

    def consumers(self, value: Value) -> list[Step]:
        """The steps that take the value, in order; a step that takes it twice stands once."""
        return sorted(self._consumers.get(value, ()), key=self.position)

    def is_output(self, value: Value) -> bool:
        """Whether the value is an output of the model."""
        return any(value is output for output in keras.tree.flatten(self.outputs))

    def only_consumer(self, value: Value) -> Step | None:
        """The step that alone takes the value, or None."""
        consumers = self._consumers.get(value, ())
        return next(iter(consumers)) if len(consumers) == 1 and not self.is_output(value) else None

    def editable(self, step: Step | None) -> bool:
        """Whether the step exists and its layer is called once, so that it can be changed."""
        return step is not None and step.operation not in self._shared

    def named(self, name: str) -> list[Step]:
        """The steps that a name stands for, by the first of these that finds any.

        Those that were made of the layer of that name; the one of that name that a pass made; a
        block of layers, by the common beginning of their names.
        """
        for stands_for in (
            lambda step: name in step.origin,
            lambda step: step.name == name,
            lambda step: any(x.startswith(f"{name}_") for x in (step.name, *step.origin)),
        ):
            found = [step for step in self._steps if stands_for(step)]
            if found:
                return found
        return []

    def insert_before(self, step: Step, *new: Step):
        """Puts new steps into the order before one; what they take and who takes theirs stays."""
        self._insert(self.position(step), step, new)

    def insert_after(self, step: Step, *new: Step):
        """Puts new steps into the order after one; what they take and who takes theirs stays."""
        self._insert(self.position(step) + 1, step, new)

    def interpose(self, value: Value, *new: Step, consumers: list[Step] | None = None):
        """Puts a chain of new steps between a value and those that take it.

        Args:
            value: what the first of the new steps takes.
            new: a chain; the last one's only output is taken in place of the value.
            consumers: who takes that; None for all, and the model's output is that, too.
        """
        if consumers is None:
            self.redirect(value, new[-1].output)
        else:
            for consumer in consumers:
                consumer.replace_input(value, new[-1].output)
        self.insert_after(self.producer(value), *new)

    def remove(self, *steps: Step):
        """Takes steps out of the order; nobody may take their outputs any more."""
        for step in steps:
            self._steps.remove(step)
            self._unlink(step)
        self._order = None

    def redirect(self, old: Value, new: Value):
        """Whoever took `old` takes `new`, and so does the model's output."""

        for step in self.consumers(old):
            step.replace_input(old, new)
        self.outputs = keras.tree.map_structure(lambda x: new if x is old else x, self.outputs)

    def bypass(self, step: Step):
        """Removes a step of one output, whose first input takes the output's place."""
        self.redirect(step.output, step.inputs[0])
        self.remove(step)

    def replace(self, old: Step, *new: Step):
        """Puts new steps in place of one; the last one's output takes the place of the old's."""
        self.insert_after(old, *new)
        self.remove(old)
        self.redirect(old.output, new[-1].output)

    def remove_unused(self):
        """Removes steps whose outputs nobody takes, inputs apart."""
        kept = set(keras.tree.flatten(self.outputs))
        used = []
        for step in reversed(self._steps):
            if step.is_a(keras.layers.InputLayer) or kept.intersection(step.outputs):
                kept.update(step.inputs)
                used.append(step)
            else:
                self._unlink(step)
        self._steps, self._order = used[::-1], None

    def _insert(self, index, neighbour, new):
        for number, step in enumerate(new):
            step.origin = step.origin or neighbour.origin
            self._add(index + number, step)

    def _add(self, index, step):
        self._steps.insert(index, step)
        self._order = None
        step._model = self
        self._producers.update(dict.fromkeys(step.outputs, step))
        self._link_inputs(step)

    def _unlink(self, step):
        """Forgets a step."""
        self._unlink_inputs(step)
        step._model = None
        for value in step.outputs:
            del self._producers[value]

    def _link_inputs(self, step):
        for value in step.inputs:
            self._consumers[value].add(step)

    def _unlink_inputs(self, step):
        for value in step.inputs:
            self._consumers[value].discard(step)

    def to_model(self, input_shape: tuple | None = None) -> keras.Model:
        """A new model with its own layers.

        Args:
            input_shape: of its only input, with the batch; None for what it was.
        """
        layers, tensors = {}, {}

        def tensor_of(x):
            return tensors[x] if isinstance(x, Value) else x

        for step in self._steps:
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
