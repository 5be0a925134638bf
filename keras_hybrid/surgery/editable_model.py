"""A functional model as a list of steps that passes can edit, and the way back to a model."""

from collections import defaultdict
from collections.abc import Sequence

import keras

from keras_hybrid.keras_private import functional, producer
from keras_hybrid.surgery.building import build
from keras_hybrid.surgery.reading import read
from keras_hybrid.surgery.steps import Step, Value, new_step

__all__ = ["EditableModel", "Step", "Value", "new_step"]


class EditableModel:
    """The steps of a functional model, in order, with what passes need to change them.

    Who computes a value and who takes it is looked up in maps, which the methods keep.

    Models inside of the model are taken apart, and a layer that is called several times is several
    steps, to be edited each in its own place; what stays equal is one layer again in the end.
    Everything is in float32, whatever the model was trained in.

    Args:
        model: a functional model; it is left as it is.

    Raises:
        ValueError: for a model that is not functional.
    """

    def __init__(self, model: keras.Model):
        self.name = model.name
        self._steps: list[Step] = []
        self._order: dict[Step, int] | None = None  # None: to be counted again
        self._producers: dict[Value, Step] = {}
        self._consumers: dict[Value, set[Step]] = defaultdict(set)
        steps, self.inputs, self.outputs = read(model)
        for step in steps:
            self._add(len(self._steps), step)
        graph = functional(model)
        self.output_names = tuple(
            getattr(producer(tensor), "output_name", None) or name
            for tensor, name in zip(graph.outputs, graph.output_names, strict=True)
        )

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
        found = self._consumers.get(value, ())
        return sorted(found, key=self.position) if len(found) > 1 else list(found)

    def is_output(self, value: Value) -> bool:
        """Whether the value is an output of the model."""
        return any(value is output for output in keras.tree.flatten(self.outputs))

    def only_consumer(self, value: Value) -> Step | None:
        """The step that alone takes the value, or None."""
        consumers = self._consumers.get(value, ())
        return next(iter(consumers)) if len(consumers) == 1 and not self.is_output(value) else None

    def editable(self, step: Step | None) -> bool:
        """Whether there is such a step: each call has a layer of its own here, to be changed."""
        return step is not None

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

    def move_after(self, step: Step, moved: Step):
        """Changes the order alone: `moved` comes right after `step`."""
        self._steps.remove(moved)
        self._steps.insert(self._steps.index(step) + 1, moved)
        self._order = None

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
            if not step.origin:
                step.origin, step.call = neighbour.origin, neighbour.call
            self._add(index + number, step)

    def _add(self, index, step):
        self._steps.insert(index, step)
        self._order = None
        step.model = self
        self._producers.update(dict.fromkeys(step.outputs, step))
        self.link_inputs(step)

    def _unlink(self, step):
        """Forgets a step."""
        self.unlink_inputs(step)
        step.model = None
        for value in step.outputs:
            del self._producers[value]

    def link_inputs(self, step: Step):
        """Remembers who takes a step's inputs; for steps, when these change."""
        for value in step.inputs:
            self._consumers[value].add(step)

    def unlink_inputs(self, step: Step):
        """Forgets who takes a step's inputs; likewise."""
        for value in step.inputs:
            self._consumers[value].discard(step)

    def to_model(self, input_shape: tuple | None = None) -> keras.Model:
        """A new model with its own layers.

        Args:
            input_shape: of its only input, with the batch; None for what it was.
        """
        return build(
            self.steps, self.inputs, self.outputs, self.output_names, self.name, input_shape
        )

    def to_model_of(self, values: Sequence[Value]) -> keras.Model:
        """A new model that gives these values, in order."""
        return build(self.steps, self.inputs, list(values), (), self.name)
