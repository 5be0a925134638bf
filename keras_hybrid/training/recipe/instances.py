"""The numbers of one training run of a Mask R-CNN."""

from dataclasses import dataclass

from keras_hybrid.training.recipe.fields import AT_LEAST_1, number, one_of
from keras_hybrid.training.recipe.objects import ObjectRecipe

HEADS = ("mask_rcnn",)


@dataclass(frozen=True)
class InstanceRecipe(ObjectRecipe):
    """All numbers of one training run of a Mask R-CNN on a backbone, which is `model`."""

    head: str = number(
        "of the network, on the backbone that `model` names.",
        one_of(*HEADS),
        HEADS[0],
    )
    candidates: int = number(
        "of each level of the pyramid that regions are chosen from in training.",
        AT_LEAST_1,
        2000,
    )
    regions: int = number(
        "of an image that the box head is trained on, at most.",
        AT_LEAST_1,
        512,
    )
    positive_regions: int = number(
        "of them that are objects', at most: those that the mask head is trained on.",
        AT_LEAST_1,
        128,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.positive_regions > self.regions:
            raise ValueError(
                "`positive_regions` must be at most `regions`. Received: "
                f"positive_regions={self.positive_regions}, regions={self.regions}"
            )
