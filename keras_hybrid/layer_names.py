"""The grammar of this package's layer names, and what a name tells: stage, block, part.

    name    = section ["_" words]
    section = "stem" | "tokens" | "stage" N ["_block" N] | "final" | "neck" | "head" | ...

`stage3_block1_former_query` is in stage 3, block 1, and its words there are "former_query"; Former
is its part. Whatever makes or reads such a name does it here. Needs no Keras.
"""

import re
from dataclasses import dataclass

STEM = "stem"
TOKENS = "tokens"
FINAL = "final"  # Mobile-Former's last Mobile->Former, after the last stage
NECK = "neck"
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
    NECK,
    HEAD,
)

_STAGE = "stage"
# What a section's word stands for; several words may mean the same section.
_SECTIONS = {
    "stem": STEM,
    "tokens": TOKENS,
    "final": FINAL,
    "neck": NECK,
    "head": HEAD,
    "auxiliary": HEAD,
    "classifier": HEAD,
    "distillation": HEAD,
    "predictions": HEAD,
    "logits": HEAD,
    "top": HEAD,
    "preprocessing": PREPROCESSING,
    "rescaling": PREPROCESSING,
    "normalization": PREPROCESSING,
}
_NAME = re.compile(
    rf"(?:{_STAGE}(?P<stage>\d+)(?:_block(?P<block>\d+))?|(?P<section>{'|'.join(_SECTIONS)}))"
    r"(?:_(?P<words>.+))?"
)
# The first whose words stand at the beginning, or after an underscore, wins.
_PARTS_BY_WORDS = (
    ("mobile_to_former", TO_FORMER),
    ("former_to_mobile", TO_MOBILE),
    ("former", FORMER),
    ("mobile", MOBILE),
    ("theta", MOBILE),
    ("attention", ATTENTION_BLOCKS),
    ("feed_forward", ATTENTION_BLOCKS),
    ("transformer", ATTENTION_BLOCKS),
    ("position_encoding", ATTENTION_BLOCKS),
)


@dataclass(frozen=True)
class LayerName:
    """A layer's name, taken apart.

    Attributes:
        section: the name's first word: "stem", "tokens", "stage", "final", "head", "predictions",
            "preprocessing" and the like.
        stage: number of the stage, counted from 1; None outside the stages.
        block: number of the block in its stage, counted from 0; None outside the blocks.
        words: what follows, such as "former_query"; empty where nothing does.
    """

    section: str
    stage: int | None = None
    block: int | None = None
    words: str = ""

    @classmethod
    def parse(cls, name: str) -> "LayerName | None":
        """A name taken apart; None for a name that is none of this package's."""
        found = _NAME.fullmatch(name)
        if not found:
            return None
        stage, block = (
            None if found[number] is None else int(found[number]) for number in ("stage", "block")
        )
        return cls(found["section"] or _STAGE, stage, block, found["words"] or "")

    @classmethod
    def in_block(cls, stage: int, block: int, words: str = "") -> "LayerName":
        """The name of a block, or of what `words` say in it."""
        return cls(_STAGE, stage, block, words)

    @classmethod
    def in_stage(cls, stage: int, words: str = "") -> "LayerName":
        """The name of a stage, or of what `words` say in it, outside its blocks."""
        return cls(_STAGE, stage, None, words)

    def __str__(self) -> str:
        words = [self.group]
        if self.block is not None:
            words.append(f"block{self.block}")
        return "_".join([*words, self.words] if self.words else words)

    @property
    def group(self) -> str:
        """The section with the stage's number: "stem", "stage1" and so on, "tokens", "head"."""
        return self.section if self.stage is None else f"{self.section}{self.stage}"

    @property
    def enclosing(self) -> str:
        """Name of the block, or of the section outside the blocks."""
        place = LayerName(self.section, self.stage, self.block)
        return str(place)

    @property
    def part(self) -> str:
        """The part of the network that the layer belongs to, one of `PARTS`."""
        section = _SECTIONS.get(self.section)
        if section in (STEM, NECK, HEAD, PREPROCESSING):
            return section
        return _part_by_words(self.words) or (FORMER if section == TOKENS else CONVOLUTION_BLOCKS)


def _part_by_words(words: str) -> str | None:
    padded = f"_{words}"
    return next((part for key, part in _PARTS_BY_WORDS if f"_{key}" in padded), None)


def part_of_layer(name: str) -> str | None:
    """The part of a layer, one of `PARTS`; None for a name that is none of this package's.

    A name of other sections, such as a user's `my_attention`, still tells its part by its words.
    """
    parsed = LayerName.parse(name)
    return parsed.part if parsed else _part_by_words(name)


def stage_of_layer(name: str) -> str | None:
    """ "stem", "stage1" and so on, "tokens", "final", "neck" or "head"; None for other names."""
    parsed = LayerName.parse(name)
    if parsed is None:
        return None
    group = _SECTIONS.get(parsed.section, parsed.group)
    return None if group == PREPROCESSING else group


def is_layer_name(name: str) -> bool:
    """Whether a name follows the grammar."""
    return LayerName.parse(name) is not None


def is_in_head(name: str) -> bool:
    """Whether a layer of this name is in a neck or head: what a backbone's weights do not hold."""
    parsed = LayerName.parse(name)
    return parsed is not None and parsed.part in (NECK, HEAD)
