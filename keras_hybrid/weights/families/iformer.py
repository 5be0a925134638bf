"""Key maps of the published iFormer checkpoints: the authors' and timm's names."""

import re

from keras_hybrid.weights.checkpoints.key_maps import KeyMap, Module, split_block

_DOWNSAMPLE = re.compile(r"stage(\d)_downsample(_norm)?")

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
        names = set(layer_names)
        modules = {name: Module(outside_blocks[name]) for name in names if name in outside_blocks}
        for name in names:
            if match := _DOWNSAMPLE.fullmatch(name):
                module = downsample(int(match[1]) - 1)
                modules[name] = Module(f"{module}.{'bn' if match[2] else 'c'}")
        starts = _published_starts(names)
        for name in names:
            if not (place := split_block(name)):
                continue
            stage, index, rest = place
            table = (
                _ATTENTION_BLOCK
                if f"stage{stage}_block{index}_feed_forward_expand" in names
                else _CONV_BLOCK
            )
            base = rest.removesuffix("_norm")
            if base not in table:
                continue
            offset, template = table[base]
            module = template.format(mixer=mixer, channel_mixer=channel_mixer, encoding=encoding)
            prefix = f"{block(stage - 1, starts[stage, index] + offset)}.{module}"
            if base.endswith("layer_scale"):
                modules[name] = Module(prefix.rpartition(".")[0])
            else:
                modules[name] = Module(f"{prefix}.{'bn' if rest != base else 'c'}")
        return modules

    return locate


def _published_starts(names):
    """(stage, block) -> number of its first published block within the stage."""
    sizes = {}
    for place in filter(None, map(split_block, names)):
        is_attention = f"stage{place[0]}_block{place[1]}_feed_forward_expand" in names
        sizes[place[:2]] = 3 if is_attention else 1
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
