"""Where the systems of MMSegmentation and MMDetection keep the layers of necks and heads."""

import re
from collections.abc import Callable

from keras_hybrid.weights.checkpoints.key_maps import Module

_NECK = re.compile(r"neck_p(\d)_(lateral|output)")
_SCALE_HEAD = re.compile(r"head_p(\d)_(conv|norm)(\d)")
_RETINANET_HEAD = re.compile(r"head_(boxes|classes)_conv(\d+)")
_MASK_CONVOLUTION = re.compile(r"head_mask_conv(\d+)")
_BOX_BINS = 7 * 7  # of the map that the box head flattens
_WHOLE_NAMES = {
    "logits": "decode_head.conv_seg",
    "head_classes_output": "bbox_head.retina_cls",
    "head_boxes_output": "bbox_head.retina_reg",
    "head_rpn_conv": "rpn_head.rpn_conv",
    "head_rpn_logits": "rpn_head.rpn_cls",
    "head_rpn_offsets": "rpn_head.rpn_reg",
    "head_box_fc1": "roi_head.bbox_head.shared_fcs.1",
    "head_box_logits": "roi_head.bbox_head.fc_cls",
    "head_box_offsets": "roi_head.bbox_head.fc_reg",
    "head_mask_double": "roi_head.mask_head.upsample",
    "head_mask_logits": "roi_head.mask_head.conv_logits",
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
            elif match := _MASK_CONVOLUTION.fullmatch(name):
                modules[name] = Module(f"roi_head.mask_head.convs.{match[1]}.conv")
            elif name == "head_box_fc0":
                modules[name] = Module("roi_head.bbox_head.shared_fcs.0", positions=_BOX_BINS)
            elif name in _WHOLE_NAMES:
                modules[name] = Module(_WHOLE_NAMES[name])
        return modules

    return located
