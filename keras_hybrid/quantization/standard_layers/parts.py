"""Operations of several outputs, of which some are not used."""

from collections.abc import Callable

from keras import layers

from keras_hybrid.quantization.standard_layers.steps import step_of
from keras_hybrid.quantization.twins.plain import Slice
from keras_hybrid.surgery.editable_model import EditableModel, Step


def edit_unused_parts(model: EditableModel, is_users: Callable[[Step], bool]) -> None:
    """Cuts out the parts of a split that are used: with others beside them, it stays float.

    The converter makes an operator int8 where all that it gives is rounded.

    Args:
        model: to be edited.
        is_users: whether the user has a rule for a step, which stays as it is.
    """
    for step in list(model.steps):
        kind = step.layer_class.__name__
        if step.is_a(layers.Layer) or kind not in ("Split", "Unstack"):
            continue
        if is_users(step):
            continue
        used = [x for x in step.outputs if model.consumers(x) or model.is_output(x)]
        value, rank = step.inputs[0], len(step.inputs[0].shape)
        axis = step.operation.axis % rank
        if not axis or value.shape[axis] is None or len(used) == len(step.outputs):
            continue
        start = 0
        for number, part in enumerate(step.outputs):
            stop = start + (1 if kind == "Unstack" else part.shape[axis])
            if part in used:
                name = f"{step.name}_part{number}"
                new = [step_of(Slice(axis, start, stop, name=name), value)]
                if kind == "Unstack":
                    shape = layers.Reshape(part.shape[1:], name=f"{name}_squeezed")
                    new.append(step_of(shape, new[-1].output))
                model.redirect(part, new[-1].output)
                model.insert_before(step, *new)
            start = stop
        model.remove(step)
