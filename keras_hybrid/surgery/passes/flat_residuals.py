"""Residuals around attention over a feature map, computed on the flat sequence of its pixels.

Attention to tokens flattens the map and shapes it back, and attention from tokens flattens it
again: a copy of the map each time. Where a sum of map and attention comes between, the sum can be
flat, too.
"""

import keras

from keras_hybrid.layers import DotProductAttention
from keras_hybrid.surgery.editable_model import EditableModel, new_step


def edit_flat_residuals(model: EditableModel):
    """Adds attention to tokens to its queries on the flat sequence of their pixels."""
    for step in list(model.steps):
        if not _attends_from_map(model, step):
            continue
        features, key, value = step.inputs
        add = model.only_consumer(step.output)
        if add is None or not add.is_a(keras.layers.Add) or not model.editable(add):
            continue
        if set(add.inputs) != {features, step.output} or model.is_output(add.output):
            continue
        _flatten(model, step, add, features)


def _attends_from_map(model, step):
    """Whether the step is attention of a map of known size to tokens.

    Neither windows nor positions are apart then: both need keys with a map's axes.
    """
    if not step.is_a(DotProductAttention) or not model.editable(step):
        return False
    query, key, value = step.inputs
    return (
        len(query.shape) == 4
        and len(key.shape) == len(value.shape) == 3
        and None not in (*query.shape[1:], key.shape[1])
        and query.shape == step.output.shape
    )


def _flatten(model, attention, add, features):
    batch, height, width, channels = features.shape
    shape = (batch, height * width, channels)
    flat = new_step(
        keras.layers.Reshape(shape[1:], name=f"{attention.name}_flat"), [features], shape
    )
    sum_of_both = add.output
    unflat = new_step(
        keras.layers.Reshape((height, width, channels), name=f"{add.name}_map"),
        [sum_of_both],
        features.shape,
    )
    for reader in model.consumers(sum_of_both):
        if not (reader.is_a(DotProductAttention) and _is_keys_of_tokens(reader, sum_of_both)):
            reader.replace_input(sum_of_both, unflat.output)
    attention.replace_input(features, flat.output)
    add.replace_input(features, flat.output)
    attention.output.shape = sum_of_both.shape = shape
    model.insert_before(attention, flat)
    model.insert_after(add, unflat)


def _is_keys_of_tokens(attention, value):
    """Whether the value is key and value of attention from tokens, which may have any axes."""
    query, *others = attention.inputs
    return len(query.shape) == 3 and others == [value, value]
