"""Which part and which stage of a network a layer belongs to, by the layers' stable names."""

import re

STEM = "stem"
HEAD = "head"
MOBILE = "Mobile"
FORMER = "Former"
TO_FORMER = "Mobile->Former"
TO_MOBILE = "Mobile<-Former"
CONVOLUTION_BLOCKS = "convolution blocks"
ATTENTION_BLOCKS = "attention blocks"
PREPROCESSING = "preprocessing"
# In the order in which reports show them.
PARTS = (
    PREPROCESSING,
    STEM,
    CONVOLUTION_BLOCKS,
    ATTENTION_BLOCKS,
    MOBILE,
    FORMER,
    TO_FORMER,
    TO_MOBILE,
    HEAD,
)

# The first rule whose expression matches the beginning of the layer's name wins.
_RULES = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (r"stem", STEM),
        (r"(?:head|classifier|distillation|predictions|logits|top)", HEAD),
        (r"(?:.*_)?mobile_to_former", TO_FORMER),
        (r"(?:.*_)?former_to_mobile", TO_MOBILE),
        (r"(?:tokens|(?:.*_)?former)", FORMER),
        (r"(?:.*_)?(?:mobile|theta)", MOBILE),
        (r"(?:.*_)?(?:attention|feed_forward|transformer|position_encoding)", ATTENTION_BLOCKS),
        (r"stage\d+", CONVOLUTION_BLOCKS),
        (r"(?:preprocessing|rescaling|normalization)", PREPROCESSING),
    )
)
_STAGE = re.compile(r"stem(?![a-z])|stage\d+(?!\d)|tokens(?![a-z])|final(?![a-z])|head(?![a-z])")


def part_of_layer(name: str) -> str | None:
    """The part of a layer, one of `PARTS`; None for a name that is none of this package's."""
    return next((part for pattern, part in _RULES if pattern.match(name)), None)


def stage_of_layer(name: str) -> str | None:
    """ "stem", "stage1" and so on, "tokens", "final" or "head"; None for other names.

    "final" is Mobile-Former's last Mobile->Former, after the last stage.
    """
    if name.startswith("predictions"):
        return HEAD
    found = _STAGE.match(name)
    return found[0] if found else None
