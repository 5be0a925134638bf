"""A functional model as steps: models inside it taken apart, one step for each call of a layer."""

from collections import Counter

import keras

from keras_hybrid.keras_private import (
    calls,
    functional,
    graph_inside,
    inputs_inside,
    inputs_structure,
    outputs_structure,
)
from keras_hybrid.surgery.float32 import float32_dtype
from keras_hybrid.surgery.steps import Step, Value, new_step


def read(model: keras.Model) -> tuple[list[Step], object, object]:
    """Steps, inputs and outputs of a model, the latter in the model's structures.

    A structure of one input is that input alone.

    Raises:
        ValueError: for a model that is not functional, and layers of Keras' own quantised types.
    """
    calls(model)  # refuses what is not functional
    graph = functional(model)
    reader = _Reader()
    values = reader.read(graph, {}, ())
    reader.name_calls()
    inputs, outputs = (
        keras.tree.map_structure(lambda x: values[id(x)], structure)
        for structure in (inputs_structure(graph), outputs_structure(graph))
    )
    flat = keras.tree.flatten(inputs)
    return reader.steps, flat[0] if len(flat) == 1 else inputs, outputs


class _Reader:
    """The steps read so far."""

    def __init__(self):
        self.steps: list[Step] = []
        self.times = Counter()

    def read(self, graph, given: dict[int, Value], models: tuple[str, ...]) -> dict[int, Value]:
        """Reads the calls of a graph.

        Args:
            graph: a functional model.
            given: values in place of its inputs, by the id of their Keras tensors.
            models: names of the models it is in, the innermost first.

        Returns: values by the id of their Keras tensors.
        """
        values = dict(given)

        def value_of(x):
            if not keras.utils.is_keras_tensor(x):
                return x
            new = Value(x.shape, float32_dtype(keras.backend.standardize_dtype(x.dtype)))
            return values.setdefault(id(x), new)

        for call in calls(graph):
            operation = call.operation
            if all(id(x) in given for x in call.outputs):
                continue  # an input of a model inside
            args, kwargs = (
                keras.tree.map_structure(value_of, part) for part in call.args_and_kwargs
            )
            inside = graph_inside(operation)
            given_to = args[0] if args else kwargs.get("inputs")
            taken = None if inside is None else inputs_inside(inside, given_to)
            if taken is not None and _fit(inside, taken):
                given_inside = {
                    id(tensor): self._cast(value, tensor, (operation.name, *models))
                    for tensor, value in zip(inside.inputs, taken, strict=True)
                }
                found = self.read(inside, given_inside, (operation.name, *models))
                for tensor, inner in zip(
                    call.outputs, keras.tree.flatten(outputs_structure(inside)), strict=True
                ):
                    values[id(tensor)] = found[id(inner)]
                continue
            _refuse_quantized(operation)
            kwargs.pop("training", None)  # predicting, a model overrides what its layers were told
            step = Step(
                operation=operation,
                args=args,
                kwargs=kwargs,
                outputs=[value_of(x) for x in call.outputs],
                layer_class=type(operation),
                origin=(operation.name, *models),
                call=self.times[operation],
            )
            if getattr(operation, "lora_enabled", False):
                step.edit()
            self.steps.append(step)
            self.times[operation] += 1
        return values

    def _cast(self, value, tensor, origin):
        """The value in the type that a model inside converts its input to."""
        dtype = float32_dtype(keras.backend.standardize_dtype(tensor.dtype))
        if value.dtype == dtype or not keras.backend.is_float_dtype(dtype):
            return value
        layer = keras.layers.Rescaling(1.0, name=f"{origin[0]}_cast", dtype=dtype)
        step = new_step(layer, [value], value.shape, origin=origin)
        self.steps.append(step)
        return step.output

    def name_calls(self):
        """Gives steps names of their own: calls of one layer, and layers of models inside."""
        taken = Counter(step.name for step in self.steps)
        seen = set()
        for step in self.steps:
            name, number = step.name, 0
            if name in seen and len(step.origin) > 1:
                name = f"{step.origin[1]}_{step.name}"
            first = name
            while name in seen or (name != step.name and name in taken):
                number += 1
                name = f"{first}_{number}"
            if name != step.name:
                step.call_name = name
                if step.config is not None:
                    step.config["name"] = name
            seen.add(name)


def _fit(graph, values):
    """Whether values have the ranks that the model has for its inputs, so that it takes them."""
    return len(values) == len(graph.inputs) and all(
        isinstance(value, Value) and len(value.shape) == len(tensor.shape)
        for value, tensor in zip(values, graph.inputs, strict=True)
    )


def _refuse_quantized(operation):
    mode = getattr(operation, "quantization_mode", None)
    if mode is not None:
        raise ValueError(
            "Layers of Keras' own quantised types cannot be rewritten: their kernels are integers "
            "beside a scale. Give the model as it was before `model.quantize(...)`, and quantise "
            f"it with `keras_hybrid.quantize`. Received: layer {operation.name!r} of type {mode!r}"
        )
