"""`keep_float`: which steps of the fused model the names of a user's layers stand for."""

import difflib

import keras

from keras_hybrid.surgery.editable_model import EditableModel, Step


def kept_float(model: keras.Model, editable: EditableModel, names) -> set[Step]:
    """The steps that the names stand for: those of that name, and those that were made of it.

    Args:
        model: of the user.
        editable: the same, fused.
        names: a layer's name, or several.

    Raises:
        ValueError: for a name that stands for none, with names close to it.
    """
    if isinstance(names, str):
        names = (names,)
    kept = set()
    for name in names:
        found = editable.named(name)
        if not found:
            raise ValueError(_unknown_name(model, editable, name))
        kept.update(found)
    return kept


def _unknown_name(model, editable, name):
    if name in {layer.name for layer in model.layers}:
        return (
            "`keep_float` must name layers that remain when the model is fused; this one became "
            f"part of its neighbours. Received: keep_float=({name!r},)"
        )
    close = difflib.get_close_matches(name, [step.name for step in editable.steps], n=3)
    return (
        "`keep_float` must name layers of the model"
        + (f"; close to it: {', '.join(close)}" if close else "")
        + f". Received: keep_float=({name!r},)"
    )
