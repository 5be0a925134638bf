"""The numbers of one training run of a detector."""

from dataclasses import dataclass

from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.fields import (
    AT_LEAST_1,
    NOT_NEGATIVE,
    SHARE,
    number,
    one_of,
)

HEADS = ("ssdlite", "retinanet")
SQUARE, COCO_SIDES = "square", "800x1333"
SIDES = (800, 1333)  # that images fit into, the shorter side and the longer one


@dataclass(frozen=True)
class DetectionRecipe(CommonRecipe):
    """All numbers of one training run of a detection head on a backbone, which is `model`.

    `resolution` is that of a training batch.
    """

    head: str = number(
        "of the network, on the backbone that `model` names.",
        one_of(*HEADS),
        "ssdlite",
    )
    head_options: dict[str, object] = number(
        'more arguments of the head, such as {"channels": 64} of retinanet.',
        default={},
    )
    fit: str = number(
        "how images are brought to the network's size: to a square of `resolution`, stretched for "
        "ssdlite, padded for retinanet; or 800x1333, retinanet's: until the shorter side is 800 or "
        "the longer 1333, in training padded to `resolution`, else one at a time, as they are.",
        one_of(SQUARE, COCO_SIDES),
        SQUARE,
    )
    crops: bool = number(
        "whether SSD's crops are drawn, which some object overlaps enough.",
        default=False,
    )
    distortion_probability: float = number(
        "of each change of brightness, contrast, saturation and hue, and of a change of channels.",
        SHARE,
        0.0,
    )
    box_weight: float = number(
        "factor on the offsets' part of the loss.",
        NOT_NEGATIVE,
        1.0,
    )
    frozen_statistics: bool = number(
        "whether batch norms of the backbone keep their statistics while scale and offset train.",
        default=False,
    )
    empty_images: bool = number(
        "whether images without objects are trained on.",
        default=True,
    )
    max_objects: int = number(
        "of an image; of more the smallest are not trained on.",
        AT_LEAST_1,
        100,
    )

    def __post_init__(self):
        super().__post_init__()
        taken = sorted({"weights", "name", "classes", "backbone"} & set(self.head_options))
        if taken:
            raise ValueError(
                f"`head_options` must be without {taken}, which training sets itself. "
                f"Received: head_options={self.head_options!r}"
            )
        if self.fit == COCO_SIDES and (self.head != "retinanet" or self.resolution < SIDES[1]):
            raise ValueError(
                f"fit={COCO_SIDES!r} is for head='retinanet' and a `resolution` of {SIDES[1]} or "
                f"more. Received: head={self.head!r}, resolution={self.resolution}"
            )
