"""The numbers of one training run of a detector."""

from dataclasses import dataclass

from keras_hybrid.training.recipe.fields import NOT_NEGATIVE, number, one_of
from keras_hybrid.training.recipe.objects import ObjectRecipe

HEADS = ("ssdlite", "retinanet")


@dataclass(frozen=True)
class DetectionRecipe(ObjectRecipe):
    """All numbers of one training run of a detection head on a backbone, which is `model`."""

    head: str = number(
        "of the network, on the backbone that `model` names.",
        one_of(*HEADS),
        "ssdlite",
    )
    box_weight: float = number(
        "factor on the offsets' part of the loss.",
        NOT_NEGATIVE,
        1.0,
    )
