"""iFormer: its published checkpoints, in the authors' and timm's names.

Preprocessing: authors and timm read with PIL (RGB); the weights are the same
(timm/models/iformer.py renames keys and no more), ImageNet mean and std, crop 0.875, bicubic.
"""

from keras_hybrid.layer_names import LayerName
from keras_hybrid.weights.checkpoints.key_maps import KeyMap, Module
from keras_hybrid.weights.checkpoints.mmengine_names import in_system
from keras_hybrid.weights.family import (
    ADE20K,
    COCO,
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Family,
    Preprocessing,
    Preset,
    TwoHeads,
)
from keras_hybrid.weights.pretrained.homes import GitHubRelease, HuggingFace, hugging_face_files

_DOWNSAMPLE = {"downsample": "c", "downsample_norm": "bn"}

# Layer of a block -> (which of the block's published blocks, module inside it). An attention
# block is three published blocks: RepCPE, SHMA, FFN.
_CONV_BLOCK = {
    "depthwise": (0, "{mixer}.0"),
    "expand": (0, "{mixer}.1"),
    "reduce": (0, "{mixer}.3"),
    "layer_scale": (0, "{mixer}"),
}
_ATTENTION_BLOCK = {
    "position_encoding": (0, "{encoding}"),
    "attention_query": (1, "{mixer}.q"),
    "attention_key": (1, "{mixer}.k"),
    "attention_value_gate": (1, "{mixer}.v_gate"),
    "attention_project": (1, "{mixer}.proj"),
    "attention_layer_scale": (1, "{mixer}"),
    "feed_forward_expand": (2, "{channel_mixer}.0"),
    "feed_forward_reduce": (2, "{channel_mixer}.2"),
    "feed_forward_layer_scale": (2, "{channel_mixer}"),
}


def _locator(outside_blocks, downsample, block, mixer, channel_mixer, encoding):
    """A `locate` from tables and from functions that name the modules of stages and blocks.

    `mixer`, `channel_mixer` and `encoding` name what a published block holds; layer scale belongs
    to the residual around it, one level up.
    """

    def locate(layer_names):
        modules = {
            name: Module(outside_blocks[name]) for name in layer_names if name in outside_blocks
        }
        places = {name: place for name in layer_names if (place := LayerName.parse(name))}
        attention = {
            place.enclosing for place in places.values() if place.words == "feed_forward_expand"
        }
        starts = _published_starts(places.values(), attention)
        for name, place in places.items():
            if place.block is None:
                if place.stage and place.words in _DOWNSAMPLE:
                    module = f"{downsample(place.stage - 1)}.{_DOWNSAMPLE[place.words]}"
                    modules[name] = Module(module)
                continue
            table = _ATTENTION_BLOCK if place.enclosing in attention else _CONV_BLOCK
            base = place.words.removesuffix("_norm")
            if base not in table:
                continue
            offset, template = table[base]
            module = template.format(mixer=mixer, channel_mixer=channel_mixer, encoding=encoding)
            start = starts[place.stage, place.block]
            prefix = f"{block(place.stage - 1, start + offset)}.{module}"
            if base.endswith("layer_scale"):
                modules[name] = Module(prefix.rpartition(".")[0])
            else:
                modules[name] = Module(f"{prefix}.{'bn' if place.words != base else 'c'}")
        return modules

    return locate


def _published_starts(places, attention):
    """(stage, block) -> number of its first published block within the stage."""
    sizes = {
        (place.stage, place.block): 3 if place.enclosing in attention else 1
        for place in places
        if place.block is not None
    }
    return {
        (stage, block): sum(sizes[stage, earlier] for earlier in range(block))
        for stage, block in sizes
    }


def _heads(classifier, distilled):
    return {
        "head_norm": f"{classifier}.bn",
        "head_fc": f"{classifier}.l",
        "head_distillation_norm": f"{distilled}.bn",
        "head_distillation_fc": f"{distilled}.l",
    }


def _stem(first, second, project):
    return {
        f"{layer}{suffix}": f"{module}.{kind}"
        for layer, module in (
            ("stem_conv1", first),
            ("stem_conv2", second),
            ("stem_project", project),
        )
        for suffix, kind in (("", "c"), ("_norm", "bn"))
    }


AUTHORS = KeyMap(
    "iformer",
    "authors",
    r"^downsample_layers\.",
    _locator(
        outside_blocks={
            **_stem(
                "downsample_layers.0.0",
                "downsample_layers.0.2.conv_exp_bn1",
                "downsample_layers.0.2.conv_pwl_bn2",
            ),
            **_heads("classifier.classifier", "classifier.classifier_dist"),
        },
        downsample=lambda stage: f"downsample_layers.{stage}.0",
        block=lambda stage, index: f"stages.{stage}.{index}.block",
        mixer="token_channel_mixer.m",
        channel_mixer="channel_mixer.m",
        encoding="cpe.m",
    ),
    nesting="model",
)

TIMM = KeyMap(
    "iformer",
    "timm",
    r"^stages\.\d+\.blocks\.\d+\.mixer\.module\.",
    _locator(
        outside_blocks={
            **_stem("stem.conv1", "stem.conv2", "stem.conv3"),
            **_heads("head.head", "head.head_dist"),
        },
        downsample=lambda stage: f"stages.{stage}.downsample",
        block=lambda stage, index: f"stages.{stage}.blocks.{index}",
        mixer="mixer.module",
        channel_mixer="mixer.module",
        encoding="cpe.module",
    ),
)

MMENGINE = KeyMap(
    "iformer",
    "mmengine",
    r"^backbone\.downsample_layers\.",
    in_system(AUTHORS.locate),
    dense=True,
)

_PREPROCESSING = Preprocessing(224, 0.875, "bicubic", IMAGENET_MEAN, IMAGENET_STD)


def _preset(variant, tag, top1, parameters, distillation=False):
    """The timm file, and for a tag that ends in "authors" the authors' own."""
    if tag.endswith("authors"):
        file = f"iFormer_{variant.lower()}{'_distill' if distillation else ''}.pth"
        homes = (
            GitHubRelease("ChuanyangZheng/iFormer", "v0.9", file),
            HuggingFace("BillionZheng/iFormer", file),
        )
    else:
        suffix = "_distilled" if distillation else ""
        homes = hugging_face_files(f"timm/iformer_{variant.lower()}{suffix}.in1k")
    return Preset(
        f"IFormer{variant}",
        tag,
        IMAGENET,
        _PREPROCESSING,
        top1,
        parameters,
        "MIT",
        homes,
        distillation,
    )


PRESETS = tuple(
    _preset(variant, tag, top1, parameters, distillation)
    for variant, plain, top1, parameters, distillation in (
        ("T", "imagenet", 74.1, 2_886_456, False),
        ("S", "imagenet", 78.8, 6_563_368, False),
        ("M", "imagenet", 80.4, 8_907_424, False),
        ("M", "imagenet_distill", 81.1, 9_293_192, True),
        ("L", "imagenet", 81.9, 14_779_808, False),
        ("L", "imagenet_distill", 82.7, 15_165_576, True),
        ("L2", "imagenet_distill", 83.9, 25_033_008, True),
        ("H", "imagenet", 84.8, 99_596_632, False),
    )
    for tag in (plain, f"{plain}_authors")
)

_DENSE_PREPROCESSING = Preprocessing(512, 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)


def _system_files(file):
    return (
        GitHubRelease("ChuanyangZheng/iFormer", "v0.9", file),
        HuggingFace("BillionZheng/iFormer", file),
    )


DENSE_PRESETS = tuple(
    Preset(
        f"SemanticFPNIFormer{variant}",
        "ade20k",
        ADE20K,
        _DENSE_PREPROCESSING,
        score,
        parameters,
        "MIT",
        _system_files(f"iFormer_{variant.lower()}_iter_40000.pth"),
        metric="mIoU",
    )
    for variant, score, parameters in (
        ("M", 42.4, 12_710_478),
        ("L", 44.5, 18_599_246),
        ("L2", 46.2, 28_255_222),
    )
) + tuple(
    Preset(
        f"MaskRCNNIFormer{variant}",
        "coco",
        COCO,
        # Images fit 800 x 1333 px, whatever their aspect: `keras_hybrid.detect` does it.
        Preprocessing(800, 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD),
        score,
        parameters,
        "MIT",
        _system_files(f"iFormer_{variant.lower()}_epoch_12.pth"),
        metric="box AP",
    )
    for variant, score, parameters in (
        ("M", 40.8, 28_611_240),
        ("L", 42.2, 34_500_008),
        ("L2", 44.6, 44_155_984),
    )
)

FAMILY = Family(
    name="iformer",
    builders=("IFormerT", "IFormerS", "IFormerM", "IFormerL", "IFormerL2", "IFormerH"),
    own_layers=(str(LayerName.in_stage(2, "downsample")),),
    key_maps=(AUTHORS, TIMM, MMENGINE),
    head_layers=("head_norm", "head_fc", "head_distillation_norm", "head_distillation_fc"),
    classifiers=("head_fc", "head_distillation_fc"),
    two_heads=TwoHeads("head", "head_distillation"),
    preprocessing=_PREPROCESSING,
    presets=PRESETS,
    dense_presets=DENSE_PRESETS,
    # Only distilled weights of iFormer-L2 are published: "imagenet" means them.
    aliases={
        ("IFormerL2", "imagenet"): "imagenet_distill",
        ("IFormerL2", "imagenet_authors"): "imagenet_distill_authors",
    },
)
