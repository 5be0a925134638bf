"""Branches side by side that need not be: averaged distillation heads, pooled maps."""

import keras

from keras_hybrid.layers import ResizeToReference
from keras_hybrid.surgery.affine import affine_producer, is_affine
from keras_hybrid.surgery.editable_model import EditableModel, new_step


def edit_averaged_heads(model: EditableModel):
    """Averages the weights of dense layers over one input in place of their outputs."""
    for step in list(model.steps):
        if not step.is_a(keras.layers.Average):
            continue
        heads = [affine_producer(model, value) for value in step.inputs]
        if any(
            head is None or not head.is_a(keras.layers.Dense) or head.inputs != heads[0].inputs
            for head in heads
        ):
            continue
        first = heads[0].edit()
        for name in first.weights:
            first.weights[name] = sum(head.edit().weights[name] for head in heads) / len(heads)
        first.origin = tuple(dict.fromkeys(name for head in heads for name in head.origin))
        model.redirect(step.output, first.output)
        model.remove(step)


def edit_pooled_branches(model: EditableModel):
    """Convolves a single pixel before it is stretched over a map, and adds what it gives.

    DeepLabv3 stretches the mean of the map beside its other branches, and a 1x1 convolution reads
    all of them: of the five, the mean costs as much as the others and is the same everywhere.
    """
    for step in list(model.steps):
        if not _is_pointwise(model, step):
            continue
        side_by_side = model.producer(step.inputs[0])
        if not _joins_channels(side_by_side) or model.only_consumer(step.inputs[0]) is None:
            continue
        values = side_by_side.inputs
        stretched = [value for value in values if _is_stretched_pixel(model, value)]
        if len(stretched) != 1 or len(values) < 2 or values.count(stretched[0]) != 1:
            continue
        _take_out(model, step, side_by_side, stretched[0])


def _is_pointwise(model, step):
    return (
        is_affine(model, step)
        and step.layer_class is keras.layers.Conv2D
        and tuple(step.setting("kernel_size")) == (1, 1)
        and tuple(step.setting("strides")) == (1, 1)
        and step.setting("groups") == 1
    )


def _joins_channels(step):
    return step.is_a(keras.layers.Concatenate) and step.setting("axis") in (-1, 3)


def _is_stretched_pixel(model, value):
    step = model.producer(value)
    return step.is_a(ResizeToReference) and tuple(step.inputs[0].shape[1:3]) == (1, 1)


def _take_out(model, step, side_by_side, stretched):
    pixel = model.producer(stretched).inputs[0]
    others, rows, start = [], [], 0
    for value in side_by_side.inputs:
        end = start + value.shape[-1]
        if value is stretched:
            own = slice(start, end)
        else:
            others.append(value)
            rows += range(start, end)
        start = end
    weights = step.edit().weights
    kernel = weights["kernel"]
    channels = step.output.shape[-1]

    def convolution(name, value, weights):
        layer = keras.layers.Conv2D(
            channels,
            1,
            use_bias="bias" in weights,
            data_format="channels_last",
            dtype=step.operation.dtype_policy,
            name=name,
        )
        return new_step(layer, [value], (*value.shape[:-1], channels), weights)

    joined = []
    if len(others) > 1:
        shape = (*stretched.shape[:-1], len(rows))
        layer = keras.layers.Concatenate(name=side_by_side.name)
        joined.append(new_step(layer, [others], shape, origin=side_by_side.origin))
    features = joined[0].output if joined else others[0]
    of_map = convolution(f"{step.name}_map", features, {"kernel": kernel[:, :, rows]})
    of_pixel = convolution(f"{step.name}_pixel", pixel, {**weights, "kernel": kernel[:, :, own]})
    total = new_step(
        keras.layers.Add(name=step.name), [[of_map.output, of_pixel.output]], step.output.shape
    )
    model.replace(step, *joined, of_map, of_pixel, total)
