"""A constant offset of a value, one a channel, into the biases of what comes after."""

from collections.abc import Callable

import keras
import numpy as np

from keras_hybrid.layers import DotProductAttention, SelectToken
from keras_hybrid.surgery.affine import (
    affine_producer,
    is_affine,
    shift_inputs,
    shift_outputs,
    takes_every_channel,
)
from keras_hybrid.surgery.editable_model import EditableModel, Step, Value


def move_offset(model: EditableModel, value: Value, offset: np.ndarray) -> bool:
    """Lets what comes after `value` add `offset` to it, so that whoever computes it need not.

    Dense layers and 1x1 convolutions add it to their bias, and so does the layer whose output is
    added to the value in a residual. Of attention, keys need no offset, since softmax takes the
    same from all scores of a query, and one of the values is one of the output, since the weights
    sum to 1.

    Args:
        model: the model that is edited.
        value: what lacks the offset from now on.
        offset: (channels,).

    Returns: whether everything after it could do so; if not, nothing has been changed.
    """
    changes = _changes(model, value, np.asarray(offset))
    if changes is None:
        return False
    for change, step, shift in changes:
        change(step, shift)
    return True


Change = tuple[Callable, Step, np.ndarray]


def _changes(model, value, offset) -> list[Change] | None:
    """What has to be done for an offset of the value: function, step, offset. None: impossible."""
    if model.is_output(value):
        return None
    changes = []
    for step in model.consumers(value):
        further = _changes_of(model, step, value, offset)
        if further is None:
            return None
        changes += further
    return changes


def _changes_of(model, step, value, offset):
    """`_changes` for one of the steps that take the value."""
    if is_affine(model, step):
        return [(shift_inputs, step, offset)] if takes_every_channel(step) else None
    if step.is_a(DotProductAttention):
        query, _, values = step.inputs
        if query is value:
            return None
        return _changes(model, step.output, offset) if values is value else []
    if step.is_a(SelectToken):
        return _changes(model, step.output, offset)
    if step.inputs.count(value) > 1:
        return None
    if step.is_a(keras.layers.Add):
        for other in step.inputs:
            if other is value:
                continue
            writer = affine_producer(model, other)
            if writer is not None and other.shape[1:] == value.shape[1:]:
                return [(shift_outputs, writer, offset)]
        return None
    if step.is_a(keras.layers.Concatenate) and step.setting("axis") in (-1, len(value.shape) - 1):
        index = step.inputs.index(value)
        before, after = (
            np.zeros(sum(x.shape[-1] for x in inputs), offset.dtype)
            for inputs in (step.inputs[:index], step.inputs[index + 1 :])
        )
        return _changes(model, step.output, np.concatenate([before, offset, after]))
    return None
