"""Mobile-Former: its published checkpoints and what they look like.

Preprocessing: AAboys/MobileFormer trains and evaluates with timm 0.3.4's loader: PIL (RGB),
ImageNet mean and std, crop 0.875, bilinear.
"""

from keras_hybrid.layer_names import LayerName
from keras_hybrid.weights.checkpoints.key_maps import KeyMap, Module, with_norms
from keras_hybrid.weights.checkpoints.mmengine_names import in_system
from keras_hybrid.weights.family import (
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Family,
    Preprocessing,
    Preset,
)
from keras_hybrid.weights.pretrained.homes import GoogleDrive

_OUTSIDE_BLOCKS = {
    "tokens": "tokens",
    "stem_conv": "stem.0",
    "stem_norm": "stem.1",
    "head_conv": "classifier.conv.1",
    "head_conv_norm": "classifier.conv.2",
    "head_fc1": "classifier.fc.0",
    "head_fc1_norm": "classifier.fc.1",
    "head_fc2": "classifier.classifier.1",
}

_MOBILE_TO_FORMER = {
    "mobile_to_former_query": "local_global.q",
    "mobile_to_former_mix": "local_global.mlp",
    "mobile_to_former_gate": "local_global.alpha.0",
    "mobile_to_former_projection": "local_global.proj",
    "mobile_to_former_norm": "local_global.layer_norm",
}

_BNECK_LITE = {
    "depthwise": "conv.0",
    "depthwise_norm": "conv.1",
    "project": "conv.4",
    "project_norm": "conv.5",
}

_BLOCK = {
    **_MOBILE_TO_FORMER,
    "former_query": "global_block.q",
    "former_mix_expand": "global_block.token_mlp.0",
    "former_mix_reduce": "global_block.token_mlp.2",
    "former_projection": "global_block.channel_mlp",
    "former_norm": "global_block.layer_norm",
    "former_ffn_expand": "global_block.ffn.0",
    "former_ffn_reduce": "global_block.ffn.2",
    "former_ffn_norm": "global_block.ffn_norm",
    "former_to_mobile_key": "global_local.k",
    "former_to_mobile_value": "global_local.proj",
    "former_to_mobile_mix": "global_local.mlp",
    "mobile_relu1_theta1": "hyper1.hyper.0",
    "mobile_relu1_theta2": "hyper1.hyper.2",
}

_STRIDE_1 = {
    "mobile_relu2_theta1": "hyper2.hyper.0",
    "mobile_relu2_theta2": "hyper2.hyper.2",
    **with_norms(
        {"mobile_expand": "conv1", "mobile_depthwise": "conv2", "mobile_project": "conv3"},
        ".0",
        ".1",
    ),
}

_STRIDE_2 = {
    "mobile_relu2_theta1": "hyper3.hyper.0",
    "mobile_relu2_theta2": "hyper3.hyper.2",
    **with_norms(
        {
            "mobile_depthwise1": "conv1",
            "mobile_project1": "conv2",
            "mobile_depthwise2": "conv3",
            "mobile_project2": "conv4",
        },
        ".0",
        ".1",
    ),
}


def _locate(layer_names):
    blocks = {}
    for name in layer_names:
        place = LayerName.parse(name)
        if place and place.block is not None:
            blocks.setdefault((place.stage, place.block), []).append(place.words)
    modules = {
        name: Module(_OUTSIDE_BLOCKS[name]) for name in layer_names if name in _OUTSIDE_BLOCKS
    }
    modules |= {
        name: Module(_MOBILE_TO_FORMER[name.removeprefix("final_")])
        for name in layer_names
        if name.removeprefix("final_") in _MOBILE_TO_FORMER
    }
    for index, (stage, block) in enumerate(sorted(blocks)):
        layers = blocks[stage, block]
        if "mobile_depthwise1" in layers:
            table = _BLOCK | _STRIDE_2
        elif "mobile_depthwise" in layers:
            table = _BLOCK | _STRIDE_1
        else:
            table = _BNECK_LITE
        modules |= {
            str(LayerName.in_block(stage, block, layer)): Module(f"features.{index}.{table[layer]}")
            for layer in layers
            if layer in table
        }
    return modules


AUTHORS = KeyMap(
    "mobile_former",
    "authors",
    r"^features\.\d+\.(conv1|conv)\.0\.weight$",
    _locate,
    nesting="state_dict",
)

MMENGINE = KeyMap(
    "mobile_former",
    "mmengine",
    r"^backbone\.features\.\d+\.(conv1|conv)\.0\.weight$",
    in_system(AUTHORS.locate),
    dense=True,
)

_PREPROCESSING = Preprocessing(224, 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)


def _preset(variant, top1, parameters, drive_id):
    home = GoogleDrive(drive_id, f"mobile-former-{variant.lower()}.pth.tar")
    return Preset(
        f"MobileFormer{variant}",
        "imagenet",
        IMAGENET,
        _PREPROCESSING,
        top1,
        parameters,
        "none stated (github.com/AAboys/MobileFormer)",
        (home,),
    )


PRESETS = (
    _preset("26M", 64.0, 3_232_788, "15uWYzx2VWWUjacZQHB56vOHzKxQDlp5O"),
    _preset("52M", 68.7, 3_469_092, "1ekq_FPl57gjIlYX16Ll0nBuEyB0pjgGt"),
    _preset("96M", 72.8, 4_585_252, "1kMbRceswujtliCHKr-nxMFsrkvBrEfrW"),
    _preset("151M", 75.2, 7_595_828, "1w4QO-zhJ8QI1zGu7iOZ7lXxYJ5G1VXdF"),
    _preset("214M", 76.7, 9_425_920, "13MOjdIMMBJgqyq_ld-grRhBBHOFU5Ggd"),
    _preset("294M", 77.9, 11_422_648, "1JBSM7NJ60fN9TgT5sMnbhmbZwrzcBd0r"),
    _preset("508M", 79.3, 13_976_976, "1bqLIcpbCaxK-Eb4wcxk0iJpFJ1nXfGuF"),
)

FAMILY = Family(
    name="mobile_former",
    builders=tuple(preset.model for preset in PRESETS),
    own_layers=("head_fc1", str(LayerName.in_block(5, 0, "mobile_depthwise1"))),
    key_maps=(AUTHORS, MMENGINE),
    head_layers=(
        "final_mobile_to_former_query",
        "final_mobile_to_former_gate",
        "final_mobile_to_former_projection",
        "final_mobile_to_former_norm",
        "head_conv",
        "head_conv_norm",
        "head_fc1",
        "head_fc1_norm",
        "head_fc2",
    ),
    classifiers=("head_fc2",),
    two_heads=None,
    preprocessing=_PREPROCESSING,
    presets=PRESETS,
)
