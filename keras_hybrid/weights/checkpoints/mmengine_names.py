"""Where the systems of MMSegmentation and MMDetection keep the layers of necks and heads."""

import re
from collections.abc import Callable

from keras_hybrid.weights.checkpoints.key_maps import Module

_NECK = re.compile(r"neck_p(\d)_(lateral|output)")
_SCALE_HEAD = re.compile(r"head_p(\d)_(conv|norm)(\d)")
_RETINANET_HEAD = re.compile(r"head_(boxes|classes)_conv(\d+)")
_WHOLE_NAMES = {
    "logits": "decode_head.conv_seg",
    "head_classes_output": "bbox_head.retina_cls",
    "head_boxes_output": "bbox_head.retina_reg",
}


def in_system(
    locate: Callable[[list[str]], dict[str, Module]],
) -> Callable[[list[str]], dict[str, Module]]:
    """The `locate` of a backbone in a system of these libraries, with its neck and head.

    Args:
        locate: of the backbone alone, as of `KeyMap`.
    """

    def located(layer_names):
        modules = {
            name: Module(f"backbone.{module.name}", module.part, module.parts)
            for name, module in locate(layer_names).items()
        }
        levels = [int(match[1]) for name in layer_names if (match := _NECK.fullmatch(name))]
        for name in layer_names:
            if match := _NECK.fullmatch(name):
                kind = "lateral" if match[2] == "lateral" else "fpn"
                modules[name] = Module(f"neck.{kind}_convs.{int(match[1]) - min(levels)}.conv")
            elif match := _SCALE_HEAD.fullmatch(name):
                level, index = int(match[1]) - 2, 2 * int(match[3])  # resizes have numbers, too
                kind = "conv" if match[2] == "conv" else "bn"
                modules[name] = Module(f"decode_head.scale_heads.{level}.{index}.{kind}")
            elif match := _RETINANET_HEAD.fullmatch(name):
                kind = "reg" if match[1] == "boxes" else "cls"
                modules[name] = Module(f"bbox_head.{kind}_convs.{match[2]}.conv")
            elif name in _WHOLE_NAMES:
                modules[name] = Module(_WHOLE_NAMES[name])
        return modules

    return located
