"""Sums and products as operators of two inputs."""

import keras

from keras_hybrid.surgery.editable_model import EditableModel, new_step

CHAINED = (
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Maximum,
    keras.layers.Minimum,
)


def edit_long_sums(model: EditableModel):
    """Writes sums, products, maxima of three and more as chains: operators take two inputs."""
    for step in list(model.steps):
        if step.layer_class not in CHAINED:
            continue
        if len(step.inputs) <= 2:
            continue
        total, new = step.inputs[0], []
        for number, value in enumerate(step.inputs[1:], 2):
            last = number == len(step.inputs)
            name = step.name if last else f"{step.name}_of{number}"
            layer = step.layer_class(name=name, dtype=step.operation.dtype_policy)
            new.append(new_step(layer, [[total, value]], step.output.shape))
            total = new[-1].output
        model.replace(step, *new)


def edit_reshaped_twice(model: EditableModel):
    """Has what a layer takes twice (x * x) reshaped after it.

    The converter does so by itself, and then refuses the grids on either side of the reshape. A
    dense layer of a sequence it has reshape to a matrix and back: that one is given a map.
    """
    for step in model.steps:
        if step.layer_class not in (*CHAINED, keras.layers.Subtract) or len(step.inputs) != 2:
            continue
        first, second = step.inputs
        if first is second:
            _give_map(model, model.producer(first))
            first, second = step.inputs
        while first is second and _reshapes(model.producer(first)):
            given = model.producer(first).inputs[0]
            shape = step.output.shape
            step.replace_input(first, given)
            step.output.shape = given.shape
            layer = keras.layers.Reshape(shape[1:], name=f"{step.name}_reshaped{len(given.shape)}")
            model.interpose(step.output, new_step(layer, [step.output], shape))
            first, second = step.inputs


def _give_map(model, step):
    """Has a dense layer of a sequence take a map of one column, reshaped before it and after."""
    if not model.editable(step) or not step.is_a(keras.layers.Dense):
        return
    given, shape = step.inputs[0], step.output.shape
    if len(shape) != 3 or None in (shape[1], given.shape[2]):
        return
    layer = keras.layers.Reshape((shape[1], 1, given.shape[2]), name=f"{step.name}_map")
    column = new_step(layer, [given], (given.shape[0], *layer.target_shape))
    model.interpose(given, column, consumers=[step])
    step.output.shape = (*shape[:2], 1, shape[2])
    layer = keras.layers.Reshape(shape[1:], name=f"{step.name}_sequence")
    model.interpose(step.output, new_step(layer, [step.output], shape))


def _reshapes(step):
    """Whether a step changes its one input's shape alone."""
    if len(step.inputs) != 1 or len(step.outputs) != 1:
        return False
    if None in step.output.shape[1:] or None in step.inputs[0].shape[1:]:
        return False
    if step.is_a(keras.layers.Layer):
        return step.is_a(keras.layers.Reshape, keras.layers.Flatten)
    return step.layer_class.__name__ in ("Reshape", "Squeeze", "ExpandDims")
