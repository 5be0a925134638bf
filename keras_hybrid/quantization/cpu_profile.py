"""What the profile "int8_cpu" leaves in float by a layer's shape, and why.

Measured with XNNPACK on one x86 core, single operators, int8 over float32; ARM has not been
measured. Depthwise convolutions are slower in int8 on x86, and stay in int8 all the same between
layers in int8: the networks are faster than in float with them, and the profile is for phones.
"""

import math
from dataclasses import dataclass, field

from keras_hybrid.surgery.editable_model import Step

# A first convolution reads 3 channels, which int8 kernels pad to 8: 3x3 and 5x5, stride 2, from
# 224 x 224 pixels take three to four times as long as in float.
FEW_CHANNELS = 4
# With fewer tokens on either side, packing what stands on the right of a product takes longer than
# int8 saves: 1.2 to 1.9 times as long as in float for 6 by 3136 and 64 by 64 tokens, 0.4 to 0.6 for
# 196 by 196 and 256 by 256.
FEW_TOKENS = 128
# A score is a sum of as many products as a head has channels. Of 16, scores take longer in int8
# (1.3 times, and 0.5 more to be float for the softmax), of 36 they do not (0.43 times).
NARROW_HEAD = 32


@dataclass(frozen=True)
class CpuChoice:
    """What the profile makes of one step.

    Attributes:
        int8: whether it is computed in int8.
        twin_settings: more of the twin's configuration, where a part of it is in float.
    """

    int8: bool
    twin_settings: dict = field(default_factory=dict)


def in_int8(step: Step) -> CpuChoice:
    """In int8, whatever its shape."""
    return CpuChoice(True)


def in_float(step: Step) -> CpuChoice:
    """In float, whatever its shape."""
    return CpuChoice(False)


def convolution(step: Step) -> CpuChoice:
    """A convolution: in float where it has few input channels."""
    return CpuChoice(step.inputs[0].shape[-1] > FEW_CHANNELS)


def depthwise(step: Step) -> CpuChoice:
    """A depthwise convolution: in float where a channel has several outputs.

    With several, it runs as a grouped convolution: 5 times as long as in float.
    """
    return CpuChoice(step.setting("depth_multiplier") == 1)


def attention(step: Step) -> CpuChoice:
    """An attention: in float over few tokens; else its products are in int8, its softmax is not."""
    query, key = (value.shape for value in step.inputs[:2])
    if step.setting("separate_positions"):
        queries, keys = query[1], key[1]
    elif step.setting("window_size"):
        queries = keys = step.setting("window_size") ** 2
    else:
        queries, keys = (_size(shape) for shape in (query, key))
    if min(queries, keys) < FEW_TOKENS:
        return CpuChoice(False)
    narrow = query[-1] // step.setting("num_heads") < NARROW_HEAD
    return CpuChoice(True, {"float_softmax": True, "float_scores": narrow})


def _size(shape):
    """Number of tokens or pixels; a map of any size counts as large."""
    axes = shape[1:-1]
    return math.inf if None in axes else math.prod(axes)
