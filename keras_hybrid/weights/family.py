"""Tells from a built or loaded model's layer names which family it belongs to."""

import keras

# A layer that every network of the family has, ablated or not, and no other family's.
_MARKS = {
    "mobile_former": "head_fc1",
    "mobilevit": "stage3_block1_unfold",
    "iformer": "stage2_downsample",
}
_MARKS_WITHOUT_HEAD = {"mobile_former": "stage5_block0_mobile_depthwise1"}


def family_of(model: keras.Model) -> str:
    """ "mobile_former", "mobilevit" or "iformer".

    Raises:
        ValueError: for a model that is none of this package's.
    """
    names = {layer.name for layer in model.layers}
    for family, mark in (*_MARKS.items(), *_MARKS_WITHOUT_HEAD.items()):
        if mark in names:
            return family
    raise ValueError(
        "The model is none of this package's: its layers have none of the families' names. "
        f"Received: model={model.name}"
    )
