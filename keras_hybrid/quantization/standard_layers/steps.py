"""New steps for old ones."""

import keras

from keras_hybrid.surgery.editable_model import Step, Value, new_step


def step_of(layer: keras.layers.Layer, inputs: Value | list[Value], weights=None) -> Step:
    """A step of a new layer that takes these values, its output's shape computed.

    Args:
        layer: not built.
        inputs: a value, or several in a list.
        weights: of the layer by name.
    """
    several = isinstance(inputs, list)
    shape = [x.shape for x in inputs] if several else inputs.shape
    return new_step(layer, [inputs], layer.compute_output_shape(shape), weights)


def weights_of(step: Step) -> dict:
    """Weights of a step's layer, by the last part of their paths, or the last two."""
    layer = step.operation
    values = dict(zip((w.path for w in layer.weights), layer.get_weights(), strict=True))
    named = {path.rsplit("/", 1)[-1]: value for path, value in values.items()}
    if len(named) == len(values):
        return named
    return {"/".join(path.split("/")[-2:]): value for path, value in values.items()}


def argument(step: Step, position: int, name: str, default=None):
    """What an operation was given, by position or by name, or set up with."""
    if len(step.args) > position:
        return step.args[position]
    return step.kwargs.get(name, getattr(step.operation, name, default))
