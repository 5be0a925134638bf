"""A key map says where a published checkpoint keeps each layer of a network."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Module:
    """Where a layer's parameters are in a published checkpoint.

    Attributes:
        name: prefix of the keys, such as "features.0.conv.4".
        part: which part of the published tensors, cut along their first axis.
        parts: into how many parts they are cut; 1 for whole tensors.
        turns: how often the parts take turns along that axis. At 1 they are equally long; else
            there are two, and each is as long as its layer needs.
        positions: of the map that a dense layer takes flattened: here channels last, published
            channel by channel; 1 where nothing is flattened.
    """

    name: str
    part: int = 0
    parts: int = 1
    turns: int = 1
    positions: int = 1

    def channels_last(self, array: np.ndarray) -> np.ndarray:
        """A published tensor with the inputs of a flattened map in our order."""
        if self.positions == 1 or array.ndim != 2:
            return array
        return _turned(array, -1, self.positions)

    def channels_first(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `channels_last`."""
        if self.positions == 1 or array.ndim != 2:
            return array
        return _turned(array, self.positions, -1)

    def cut(self, array: np.ndarray, rows: int) -> np.ndarray:
        """The part of a published tensor, `rows` long."""
        if self.parts == 1:
            return array
        if self.turns == 1:
            return np.split(array, self.parts)[self.part]
        groups = array.reshape(self.turns, -1, *array.shape[1:])
        own = rows // self.turns
        groups = groups[:, :own] if self.part == 0 else groups[:, groups.shape[1] - own :]
        return groups.reshape(rows, *array.shape[1:])


def _turned(matrix, first, second):
    """A matrix (out, first * second) with the two in the other order."""
    outputs, inputs = matrix.shape
    return matrix.reshape(outputs, first, second).swapaxes(1, 2).reshape(outputs, inputs)


def joined(parts: list[np.ndarray], turns: int = 1) -> np.ndarray:
    """The published tensor of its parts: the inverse of `Module.cut`."""
    if len(parts) == 1:
        return parts[0]
    groups = [part.reshape(turns, -1, *part.shape[1:]) for part in parts]
    return np.concatenate(groups, axis=1).reshape(-1, *parts[0].shape[1:])


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
        dense: whether only systems of detection or segmentation have these names.
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
