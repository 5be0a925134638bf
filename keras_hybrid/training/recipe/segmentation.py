"""The numbers of one training run of a network for segmentation."""

from dataclasses import dataclass

from keras_hybrid.layers.resizing import INTERPOLATIONS as STRETCHES
from keras_hybrid.tasks.segmentation.loss import DIVISORS
from keras_hybrid.tasks.segmentation.protocol import FITS, SegmentationProtocol
from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.fields import (
    AT_LEAST_1,
    NOT_NEGATIVE,
    RISING,
    SHARE,
    SHARE_ABOVE_0,
    SHARE_BELOW_1,
    number,
    one_of,
    optional,
)

HEADS = ("deeplabv3", "semantic_fpn")
UNLIMITED = 1 << 30  # pixels of a long side


@dataclass(frozen=True)
class SegmentationRecipe(CommonRecipe):
    """All numbers of one training run of a head on a backbone, which is `model`.

    `resolution` is that of the crops that it is trained on.
    """

    head: str = number(
        "of the network, on the backbone that `model` names.",
        one_of(*HEADS),
        "semantic_fpn",
    )
    head_options: dict[str, object] = number(
        'more arguments of the head, such as {"neck_channels": 64}.',
        default={},
    )
    auxiliary_weight: float = number(
        "of the loss of a second head in training, which a head has with `auxiliary=true` among "
        "its options; it is not saved.",
        NOT_NEGATIVE,
        0.4,
    )
    frozen_statistics: bool = number(
        "whether batch norms of the backbone keep their statistics while scale and offset train.",
        default=False,
    )
    loss_divisor: str = number(
        "what the loss is a mean over: pixels that have a class, or all.",
        one_of(*DIVISORS),
        "labelled",
    )
    stretch: str = number(
        "how logits are brought to the labels' size, in loss and evaluation: bilinear at "
        "half-pixel centres, or with aligned corners.",
        one_of(*STRETCHES),
        "bilinear",
    )
    resize_scale: tuple[float, float] = number(
        "least and greatest short side of the resized image, over `resolution`.",
        RISING,
        (1.0, 1.0),
    )
    long_side: float | None = number(
        "the most that the long side may be, over `resolution`; the short one is then shorter. "
        "None for any.",
        optional(AT_LEAST_1),
        None,
    )
    long_side_scaled: bool = number(
        "whether that limit is scaled with the image.",
        default=True,
    )
    pad_crops: bool = number(
        "whether images smaller than a crop are filled up, without labels; else they are enlarged.",
        default=True,
    )
    one_class_share: float = number(
        "share of a crop's labelled pixels that one class may cover; of ten more draws the first "
        "that holds to it is taken. 1 for any crop.",
        SHARE_ABOVE_0,
        1.0,
    )
    distortion_probability: float = number(
        "of each change of brightness, contrast, saturation and hue.",
        SHARE,
        0.0,
    )
    rotation: float = number(
        "largest angle of a random rotation, in degrees; corners have no label then.",
        NOT_NEGATIVE,
        0.0,
    )
    blur_probability: float = number(
        "of a Gaussian blur of 3 to 9 pixels.",
        SHARE,
        0.0,
    )
    evaluation_fit: str = number(
        "how images are resized to be evaluated: to a square of `resolution`, their aspect not "
        "kept; or kept, the short side to `resolution` and the long one at most to `long_side`.",
        one_of(*FITS),
        "stretch",
    )
    dropout_rate: float | None = number(
        "of the head's first dropout, None for the head's own.",
        optional(SHARE_BELOW_1),
        None,
    )

    def __post_init__(self):
        super().__post_init__()
        taken = sorted({"weights", "name", "classes", "dropout_rate"} & set(self.head_options))
        if taken:
            raise ValueError(
                f"`head_options` must be without {taken}, which training sets itself. "
                f"Received: head_options={self.head_options!r}"
            )

    @property
    def has_auxiliary(self) -> bool:
        """Whether a second head is trained, too."""
        return bool(self.head_options.get("auxiliary"))

    @property
    def any_size(self) -> bool:
        """Whether images are evaluated in sizes of their own."""
        return self.evaluation_fit != "stretch"

    @property
    def protocol(self) -> SegmentationProtocol:
        """The sizes that an image and its logits go through to be evaluated."""
        longer = self.resolution
        if self.any_size:
            longer = UNLIMITED if self.long_side is None else round(longer * self.long_side)
        size = (self.resolution, longer)
        return SegmentationProtocol(self.evaluation_fit, size, stretches=(("image", self.stretch),))
