"""A key map says where a published checkpoint keeps each layer of a network."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Module:
    """Where a layer's parameters are in a published checkpoint.

    Attributes:
        name: prefix of the keys, such as "features.0.conv.4".
        part: which part of the published tensors, cut along their first axis.
        parts: into how many equal parts they are cut; 1 for whole tensors.
    """

    name: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class KeyMap:
    """One naming of one family's checkpoints.

    Attributes:
        family: name of the family.
        naming: name of whose names they are, such as "authors" or "timm".
        pattern: regular expression that matches some key of such a checkpoint and of no other.
        locate: function of the names of a network's layers, in order, to their modules, by layer
            name. Layers that it does not know are left out.
        nesting: key of a pickle under which the home's own code looks for the state dict; None for
            the file's top.
        channel_order: order of the image's channels that networks with these names take, "RGB" or
            "BGR"; None where the family's own holds.
    """

    family: str
    naming: str
    pattern: str
    locate: Callable[[list[str]], dict[str, Module]]
    nesting: str | None = None
    dense: bool = False
    channel_order: str | None = None

    def recognizes(self, keys: Iterable[str]) -> bool:
        """Whether a checkpoint with these keys has this naming."""
        return any(re.search(self.pattern, key) for key in keys)


def with_norms(convolutions: dict[str, str], convolution: str, norm: str) -> dict[str, str]:
    """Entries for convolutions and the batch norm after each.

    Args:
        convolutions: layer name -> module name of a pair of convolution and batch norm.
        convolution: what the convolution is called inside the module, such as ".0".
        norm: what the batch norm is called inside the module, such as ".1".
    """
    entries = {}
    for layer, module in convolutions.items():
        entries[layer] = module + convolution
        entries[f"{layer}_norm"] = module + norm
    return entries
