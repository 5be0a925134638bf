"""The numbers that training runs of detectors and of Mask R-CNN have in common."""

from dataclasses import dataclass

from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.fields import AT_LEAST_1, SHARE, number, one_of, optional

SQUARE, COCO_SIDES = "square", "800x1333"
SIDES = (800, 1333)  # that images fit into, the shorter side and the longer one


@dataclass(frozen=True)
class ObjectRecipe(CommonRecipe):
    """What recipes of networks that find objects say: their images, objects and statistics.

    `resolution` is that of a training batch: of its longer side, where it has a shorter one.
    """

    head: str = number(
        "of the network, on the backbone that `model` names.",
        default="",
    )
    head_options: dict[str, object] = number(
        'more arguments of the head, such as {"channels": 64} of retinanet and mask_rcnn.',
        default={},
    )
    fit: str = number(
        "how images are brought to the network's size: to a square of `resolution`, stretched for "
        "ssdlite, else padded; or 800x1333, not for ssdlite: until the shorter side is 800 or the "
        "longer 1333, in training padded to `resolution`, else one at a time, as they are.",
        one_of(SQUARE, COCO_SIDES),
        SQUARE,
    )
    shorter_side: int | None = number(
        "of training batches whose images are all wide (squares, too) or all upright, in pixels, "
        "`resolution` being their longer side: less is padded than in squares. Images fit such a "
        "batch, so that with fit=square those that are nearly square come smaller than in "
        "evaluation. None for square batches.",
        optional(AT_LEAST_1),
        None,
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
        if self.fit == COCO_SIDES and (not self.keeps_aspect or self.resolution < SIDES[1]):
            raise ValueError(
                f"fit={COCO_SIDES!r} is for a head that keeps images' aspect, as 'retinanet', and "
                f"a `resolution` of {SIDES[1]} or more. "
                f"Received: head={self.head!r}, resolution={self.resolution}"
            )
        if self.shorter_side is None:
            return
        least = SIDES[0] if self.fit == COCO_SIDES else 1
        if not self.keeps_aspect or not least <= self.shorter_side < self.resolution:
            raise ValueError(
                "`shorter_side` is for a head that keeps images' aspect, as 'retinanet', and must "
                f"be {least} or more and below resolution={self.resolution}. "
                f"Received: head={self.head!r}, shorter_side={self.shorter_side}"
            )

    @property
    def any_size(self) -> bool:
        """Whether batches come in two sizes, wide and upright."""
        return self.shorter_side is not None

    @property
    def wide_size(self) -> tuple[int, int]:
        """Height and width of a training batch, of wide images where it has one orientation."""
        return (self.shorter_side or self.resolution, self.resolution)

    @property
    def keeps_aspect(self) -> bool:
        """Whether images are padded to a square, and not stretched."""
        return self.head != "ssdlite"
