"""How an image of any size becomes a label map: the published evaluations, and others like them."""

from dataclasses import dataclass

import keras

from keras_hybrid.layers.resizing import INTERPOLATIONS

FITS = ("stretch", "inside", "short_side")


@dataclass(frozen=True)
class SegmentationProtocol:
    """The sizes that an image and its logits go through.

    Attributes:
        fit: "stretch" to resize the image to `size`, its aspect not kept; "inside" to keep it and
            fit into `size`, lying or upright; "short_side" to keep it with the shorter side
            `size[0]` and the longer one at most `size[1]`.
        size: (height, width) for "stretch", else (shorter, longer) side, in pixels; None for the
            image's own size.
        antialias: whether the image's resize averages over what it leaves out, as Pillow does and
            OpenCV does not.
        multiple: what height and width are rounded down to a multiple of.
        stretches: of the logits, in order: where to, "input" for the size that the network saw or
            "image" for the image's own, and the interpolation, as of
            `keras_hybrid.layers.resizing.resize`.
    """

    fit: str = "stretch"
    size: tuple[int, int] | None = None
    antialias: bool = False
    multiple: int = 1
    stretches: tuple[tuple[str, str], ...] = (("image", "bilinear"),)

    def __post_init__(self):
        if self.fit not in FITS:
            raise ValueError(f"`fit` must be one of {FITS}. Received: fit={self.fit!r}")
        for place, interpolation in self.stretches:
            if place not in ("input", "image") or interpolation not in INTERPOLATIONS:
                raise ValueError(
                    f"`stretches` are pairs of 'input' or 'image' and one of {INTERPOLATIONS}. "
                    f"Received: stretches={self.stretches!r}"
                )
        if not self.stretches or self.stretches[-1][0] != "image":
            raise ValueError(
                "The last of `stretches` must be to the 'image'. "
                f"Received: stretches={self.stretches!r}"
            )

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size that the network sees of an image of this size."""
        if self.size is None:
            sizes = (height, width)
        elif self.fit == "stretch":
            sizes = self.size
        else:
            shorter, longer = sorted(self.size)
            scale = longer / max(height, width)
            by_short = shorter / min(height, width)
            # OpenMMLab's rounding, for both.
            scale = min(scale, by_short)
            sizes = (int(height * scale + 0.5), int(width * scale + 0.5))
        height, width = (max(side // self.multiple, 1) * self.multiple for side in sizes)
        return height, width


# MobileViT's authors' library v0.1: the network itself multiplies its logits' size by 16, the mask
# is brought to the image's size by nearest neighbor.
DEEPLABV3 = SegmentationProtocol(
    size=(512, 512), stretches=(("input", "bilinear"), ("image", "nearest"))
)
# From v0.2 on: Pillow's resize, the logits straight to the image's size, corners on corners.
DEEPLABV3_LATER = SegmentationProtocol(
    fit="short_side",
    size=(512, 1 << 30),
    antialias=True,
    multiple=8,
    stretches=(("image", "bilinear_aligned"),),
)
# iFormer's authors, on MMSegmentation: whole images, of sizes that do not divide by 32, too.
SEMANTIC_FPN = SegmentationProtocol(
    fit="inside", size=(512, 2048), stretches=(("input", "bilinear"), ("image", "bilinear"))
)
# Of other networks: as large as the image is.
PLAIN = SegmentationProtocol(multiple=32)


def protocol_of(model: keras.Model) -> SegmentationProtocol:
    """The published evaluation of a dense network, told by its head.

    A network of a fixed size sees images stretched to that, as MobileViT's authors do; the rest
    of its protocol holds. Build one of any size (`input_shape=(None, None, 3)`) for evaluations
    that keep the aspect.

    Args:
        model: of `deeplabv3`, `semantic_fpn` or any dense network.
    """
    names = {layer.name: layer for layer in model.layers}
    if "head_aspp0" in names:
        dilated = names.get("head_aspp1_conv", names.get("head_aspp1"))
        rate = getattr(dilated, "dilation_rate", (0,))[0]
        protocol = DEEPLABV3_LATER if rate == 12 else DEEPLABV3
    elif "neck_p2_lateral" in names and "head_p2_conv0" in names:
        protocol = SEMANTIC_FPN
    else:
        protocol = PLAIN
    height, width = model.inputs[0].shape[1:3]
    if height is None or width is None:
        return protocol
    return SegmentationProtocol(
        "stretch", (height, width), protocol.antialias, 1, protocol.stretches
    )
