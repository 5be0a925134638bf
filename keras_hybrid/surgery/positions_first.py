"""MobileViT's patches with their positions before the patches, as NPUs want them.

Between unfolding and folding, all but attention computes each pixel by itself, in any order. With
one position after the other, unfolding and folding are cuts and concatenations, and attention finds
the sequences apart already. Ethos-U85 has no SPACE_TO_DEPTH and no DEPTH_TO_SPACE.
"""

import keras

from keras_hybrid.layers import (
    DotProductAttention,
    FoldPatches,
    LeanLayerNormalization,
    UnfoldPatches,
)
from keras_hybrid.surgery.editable_model import EditableModel

_BY_PIXEL = (
    keras.layers.Dense,
    keras.layers.Add,
    keras.layers.Activation,
    keras.layers.ReLU,
    LeanLayerNormalization,
)


def edit_positions_first(model: EditableModel):
    """Has layers from unfolding to folding take (batch, positions, patches, channels)."""
    turned, starts, ends, attentions = [], [], [], []
    seen = set()
    for step in model.steps:
        if step.is_a(UnfoldPatches) and None not in step.output.shape[1:]:
            starts.append(step)
        elif step.is_a(FoldPatches) and step.inputs[0] in seen:
            ends.append(step)
            continue
        elif not seen.intersection(step.inputs):
            continue
        elif step.is_a(DotProductAttention) and step.setting("separate_positions"):
            attentions.append(step)
        elif step.layer_class not in _BY_PIXEL:
            return  # what else it is, it may know of the axes
        if any(x not in seen and len(x.shape) > 3 for x in step.inputs) and step not in starts:
            return
        seen.update(step.outputs)
        turned += step.outputs
    if any(model.is_output(value) for value in turned):
        return
    for step in (*starts, *ends, *attentions):
        step.edit().config["positions_first"] = True
    for value in turned:
        batch, patches, positions, channels = value.shape
        value.shape = (batch, positions, patches, channels)
