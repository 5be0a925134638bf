"""MobileViT: its published checkpoints, in timm's and Hugging Face's names.

Preprocessing, and the channel order above all, is what the files were trained and measured with:

- `apple` files: **BGR**. The authors' first release (apple/ml-cvnets, 2021, in
  data/datasets/dataset_base.py) reads images with `cv2.imread` and says that they stay in BGR; the
  Hugging Face conversion keeps the weights and has `do_flip_channel_order: true`, size 288, crop
  256, bilinear, no mean or std in its preprocessor_config.json.
- `timm` files: **RGB**. timm reads with PIL, `convert("RGB")` (timm/data/dataset.py), has no flip
  among its transforms, and measures what Apple publishes: 68.94 / 74.62 / 78.30
  (results/results-imagenet.csv) for 69.0 / 74.8 / 78.4. The stem of these files was turned.
"""

import dataclasses
import re

from keras_hybrid.layer_names import LayerName
from keras_hybrid.weights.checkpoints.key_maps import KeyMap, Module, with_norms
from keras_hybrid.weights.family import COCO, IMAGENET, VOC, Family, Preprocessing, Preset
from keras_hybrid.weights.pretrained.homes import AppleAssets, hugging_face_files


def deeplabv3_modules(prefix, convolution, norm, classifier):
    """Layers of `deeplabv3` -> their modules, but for the auxiliary head."""
    aspp = f"{prefix}.aspp"
    branches = {f"head_aspp{index}": f"{aspp}.convs.{index}" for index in range(4)}
    branches["head_aspp4"] = f"{aspp}.convs.4.conv_1x1"
    branches["head_project"] = f"{aspp}.project"
    return with_norms(branches, convolution, norm) | {
        "logits": f"{prefix}.{classifier}{convolution}"
    }


def ssdlite_modules() -> dict[str, Module]:
    """Layers of `ssdlite` -> their modules. Offsets and logits take turns, anchor by anchor."""
    pairs = {}
    for index, level in enumerate(("os_64", "os_128", "os_256"), start=2):
        pairs[f"neck_level{index}_depthwise"] = f"extra_layers.{level}.dw_conv"
        pairs[f"neck_level{index}_project"] = f"extra_layers.{level}.pw_conv"
    for index in range(5):
        pairs[f"head_level{index}_project"] = f"ssd_heads.{index}.proj_layer"
        pairs[f"head_level{index}_depthwise"] = f"ssd_heads.{index}.loc_cls_layer.dw_conv"
    modules = {
        layer: Module(module)
        for layer, module in with_norms(pairs, ".block.conv", ".block.norm").items()
    }
    modules["neck_level5"] = Module("extra_layers.os_-1.1.block.conv")
    for index in range(6):
        inside, anchors = (".pw_conv", 6) if index < 5 else ("", 4)
        module = f"ssd_heads.{index}.loc_cls_layer{inside}.block.conv"
        for part, kind in enumerate(("boxes", "classes")):
            modules[f"head_level{index}_{kind}"] = Module(module, part, 2, turns=anchors)
    return modules


_TRANSFORMER_LAYER = re.compile(r"transformer(\d+)_(.+)")

_TIMM_OUTSIDE_BLOCKS = {
    "stem_conv": "stem.conv",
    "stem_norm": "stem.bn",
    "head_conv": "final_conv.conv",
    "head_norm": "final_conv.bn",
    "head_fc": "head.fc",
}
_TIMM_MV2 = with_norms(
    {"expand": "conv1_1x1", "depthwise": "conv2_kxk", "project": "conv3_1x1"}, ".conv", ".bn"
)
_TIMM_MOBILEVIT = {
    "local_conv": "conv_kxk.conv",
    "local_norm": "conv_kxk.bn",
    "local_project": "conv_1x1",
    "transformer_norm": "norm",
    "project": "conv_proj.conv",
    "project_norm": "conv_proj.bn",
    "fusion_conv": "conv_fusion.conv",
    "fusion_norm": "conv_fusion.bn",
}
_TIMM_TRANSFORMER = {
    "attention_norm": Module("norm1"),
    "attention_query": Module("attn.qkv", 0, 3),
    "attention_key": Module("attn.qkv", 1, 3),
    "attention_value": Module("attn.qkv", 2, 3),
    "attention_project": Module("attn.proj"),
    "mlp_norm": Module("norm2"),
    "mlp_expand": Module("mlp.fc1"),
    "mlp_reduce": Module("mlp.fc2"),
}

_HUGGING_FACE_OUTSIDE_BLOCKS = {
    "stem_conv": "mobilevit.conv_stem.convolution",
    "stem_norm": "mobilevit.conv_stem.normalization",
    "head_conv": "mobilevit.conv_1x1_exp.convolution",
    "head_norm": "mobilevit.conv_1x1_exp.normalization",
    "head_fc": "classifier",
    **deeplabv3_modules("segmentation_head", ".convolution", ".normalization", "classifier"),
}
_HUGGING_FACE_MV2 = with_norms(
    {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"},
    ".convolution",
    ".normalization",
)
_HUGGING_FACE_MOBILEVIT = {
    "local_conv": "conv_kxk.convolution",
    "local_norm": "conv_kxk.normalization",
    "local_project": "conv_1x1.convolution",
    "transformer_norm": "layernorm",
    "project": "conv_projection.convolution",
    "project_norm": "conv_projection.normalization",
    "fusion_conv": "fusion.convolution",
    "fusion_norm": "fusion.normalization",
}
_HUGGING_FACE_TRANSFORMER = {
    "attention_norm": Module("layernorm_before"),
    "attention_query": Module("attention.attention.query"),
    "attention_key": Module("attention.attention.key"),
    "attention_value": Module("attention.attention.value"),
    "attention_project": Module("attention.output.dense"),
    "mlp_norm": Module("layernorm_after"),
    "mlp_expand": Module("intermediate.dense"),
    "mlp_reduce": Module("output.dense"),
}


def _locator(outside_blocks, mv2, mobilevit, transformer, mv2_module, mobilevit_module, layer):
    """A `locate` from tables, and from functions that name the modules of blocks and layers."""

    def locate(layer_names):
        modules = {
            name: Module(outside_blocks[name]) for name in layer_names if name in outside_blocks
        }
        places = {name: LayerName.parse(name) for name in layer_names}
        places = {name: place for name, place in places.items() if place and place.words}
        hybrid = {place.enclosing for place in places.values() if place.words == "unfold"}
        for name, place in places.items():
            if place.block is None:
                continue
            stage, block, rest = place.stage, place.block, place.words
            if place.enclosing not in hybrid:
                if rest in mv2:
                    modules[name] = Module(f"{mv2_module(stage, block)}.{mv2[rest]}")
            elif rest in mobilevit:
                modules[name] = Module(f"{mobilevit_module(stage)}.{mobilevit[rest]}")
            elif (match := _TRANSFORMER_LAYER.fullmatch(rest)) and match[2] in transformer:
                inside = transformer[match[2]]
                prefix = f"{mobilevit_module(stage)}.{layer(int(match[1]))}"
                modules[name] = Module(f"{prefix}.{inside.name}", inside.part, inside.parts)
        return modules

    return locate


def _hugging_face_mv2_module(stage, block):
    layer = f"mobilevit.encoder.layer.{stage - 1}"
    return f"{layer}.downsampling_layer" if stage > 2 else f"{layer}.layer.{block}"


TIMM = KeyMap(
    "mobilevit",
    "timm",
    r"^stages\.\d+\.\d+\.conv_kxk\.conv\.weight$",
    _locator(
        _TIMM_OUTSIDE_BLOCKS,
        _TIMM_MV2,
        _TIMM_MOBILEVIT,
        _TIMM_TRANSFORMER,
        mv2_module=lambda stage, block: f"stages.{stage - 1}.{block}",
        mobilevit_module=lambda stage: f"stages.{stage - 1}.1",
        layer=lambda index: f"transformer.{index}",
    ),
)

HUGGING_FACE = KeyMap(
    "mobilevit",
    "hugging_face",
    r"^mobilevit\.",
    _locator(
        _HUGGING_FACE_OUTSIDE_BLOCKS,
        _HUGGING_FACE_MV2,
        _HUGGING_FACE_MOBILEVIT,
        _HUGGING_FACE_TRANSFORMER,
        mv2_module=_hugging_face_mv2_module,
        mobilevit_module=lambda stage: f"mobilevit.encoder.layer.{stage - 1}",
        layer=lambda index: f"transformer.layer.{index}",
    ),
    channel_order="BGR",
)


# The authors' own names, of their detection and segmentation systems alone: their classifiers are
# known in the names of timm and of Hugging Face. Two generations name the classifier differently.
_AUTHORS_MV2 = with_norms(
    {"expand": "exp_1x1", "depthwise": "conv_3x3", "project": "red_1x1"},
    ".block.conv",
    ".block.norm",
)
_AUTHORS_MOBILEVIT = {
    "local_conv": "local_rep.conv_3x3.block.conv",
    "local_norm": "local_rep.conv_3x3.block.norm",
    "local_project": "local_rep.conv_1x1.block.conv",
    "project": "conv_proj.block.conv",
    "project_norm": "conv_proj.block.norm",
    "fusion_conv": "fusion.block.conv",
    "fusion_norm": "fusion.block.norm",
}
_AUTHORS_TRANSFORMER = {
    "attention_norm": Module("pre_norm_mha.0"),
    "attention_query": Module("pre_norm_mha.1.qkv_proj", 0, 3),
    "attention_key": Module("pre_norm_mha.1.qkv_proj", 1, 3),
    "attention_value": Module("pre_norm_mha.1.qkv_proj", 2, 3),
    "attention_project": Module("pre_norm_mha.1.out_proj"),
    "mlp_norm": Module("pre_norm_ffn.0"),
    "mlp_expand": Module("pre_norm_ffn.1"),
    "mlp_reduce": Module("pre_norm_ffn.4"),
}


def _authors(classifier):
    """A `locate` of one generation."""
    heads = deeplabv3_modules("seg_head", ".block.conv", ".block.norm", classifier)
    aspp = "seg_head.aspp.aspp_layer"
    heads = {
        layer: module.replace("seg_head.aspp", aspp).replace("convs.4.", "convs.4.aspp_pool.")
        for layer, module in heads.items()
    }
    locate = _locator(
        {
            "stem_conv": "encoder.conv_1.block.conv",
            "stem_norm": "encoder.conv_1.block.norm",
            **heads,
            **with_norms({"auxiliary_conv": "seg_head.aux_head.0"}, ".block.conv", ".block.norm"),
            "auxiliary": "seg_head.aux_head.2.block.conv",
        },
        _AUTHORS_MV2,
        _AUTHORS_MOBILEVIT,
        _AUTHORS_TRANSFORMER,
        mv2_module=lambda stage, block: f"encoder.layer_{stage}.{block}.block",
        mobilevit_module=lambda stage: f"encoder.layer_{stage}.1",
        layer=lambda index: f"global_rep.{index}",
    )

    ssd = ssdlite_modules()

    def with_last_norms(layer_names):
        """The norm after a transformer's layers is numbered as one more of them."""
        modules = locate(layer_names)
        modules |= {name: ssd[name] for name in layer_names if name in ssd}
        depths = {}  # stage -> transformer layers
        for place in filter(None, map(LayerName.parse, layer_names)):
            if match := _TRANSFORMER_LAYER.fullmatch(place.words):
                depths[place.stage] = max(depths.get(place.stage, 0), int(match[1]) + 1)
        for stage, depth in depths.items():
            norm = str(LayerName.in_block(stage, 1, "transformer_norm"))
            modules[norm] = Module(f"encoder.layer_{stage}.1.global_rep.{depth}")
        return modules

    return with_last_norms


AUTHORS = KeyMap(
    "mobilevit",
    "authors",
    r"^(seg_head\.classifier\.classifier|ssd_heads)\.",
    _authors("classifier.classifier"),
    dense=True,
)
AUTHORS_LATER = KeyMap(
    "mobilevit",
    "authors, v0.2",
    r"^seg_head\.classifier\.block\.",
    _authors("classifier"),
    dense=True,
)

_TIMM_PREPROCESSING = Preprocessing(256, 0.9, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_APPLE_PREPROCESSING = Preprocessing(
    256, 256 / 288, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "BGR"
)


_LICENSE = "Apple sample code licence (github.com/apple/ml-cvnets/blob/main/LICENSE)"


def _preset(variant, tag, preprocessing, top1, parameters, repository):
    return Preset(
        f"MobileViT{variant}",
        tag,
        IMAGENET,
        preprocessing,
        top1,
        parameters,
        _LICENSE,
        hugging_face_files(repository),
    )


PRESETS = tuple(
    _preset(variant, tag, preprocessing, top1, parameters, repository)
    for variant, parameters, short, long, timm_top1, apple_top1 in (
        ("XXS", 1_272_024, "xxs", "xx-small", 68.9, 69.0),
        ("XS", 2_317_848, "xs", "x-small", 74.6, 74.8),
        ("S", 5_578_632, "s", "small", 78.3, 78.4),
    )
    for tag, preprocessing, top1, repository in (
        ("imagenet", _TIMM_PREPROCESSING, timm_top1, f"timm/mobilevit_{short}.cvnets_in1k"),
        ("imagenet_apple", _APPLE_PREPROCESSING, apple_top1, f"apple/mobilevit-{long}"),
    )
)

# Of `transformers`' processor: shorter side 544, crop 512, BGR.
_VOC_PREPROCESSING = Preprocessing(
    512, 512 / 544, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "BGR"
)
# The authors' first release stretches the image to 512 x 512; the later one reads with PIL, in RGB.
_VOC_AUTHORS = dataclasses.replace(_VOC_PREPROCESSING, crop_fraction=1.0)
_VOC_LATER = dataclasses.replace(_VOC_AUTHORS, channel_order="RGB")


def _voc_preset(variant, tag, preprocessing, score, parameters, homes):
    return Preset(
        f"DeepLabV3MobileViT{variant}",
        tag,
        VOC,
        preprocessing,
        score,
        parameters,
        _LICENSE,
        homes,
        metric="mIoU",
    )


DENSE_PRESETS = (
    *(
        _voc_preset(variant, tag, preprocessing, score, parameters, homes)
        for variant, parameters, score, short, long in (
            ("XXS", 1_854_853, 72.8, "xxs", "xx-small"),
            ("XS", 2_944_069, 77.1, "xs", "x-small"),
            ("S", 6_357_941, 79.3, "s", "small"),
        )
        for tag, preprocessing, homes in (
            ("voc", _VOC_PREPROCESSING, hugging_face_files(f"apple/deeplabv3-mobilevit-{long}")),
            (
                "voc_authors",
                _VOC_AUTHORS,
                (AppleAssets("cvnets/segmentation", f"deeplabv3_mobilevit_{short}.pt"),),
            ),
        )
    ),
    # Output stride 8, with the second head that it was trained with.
    _voc_preset(
        "S",
        "voc_stride8",
        _VOC_LATER,
        79.44,
        8_537_269,
        (AppleAssets("cvnets-v2/segmentation/pascalvoc", "deeplabv3-mobilevitv1.pt"),),
    ),
    # The first release's: images are stretched to 320 x 320, read with OpenCV.
    *(
        Preset(
            f"SSDLiteMobileViT{variant}",
            "coco",
            COCO,
            dataclasses.replace(_VOC_AUTHORS, resolution=320),
            score,
            parameters,
            _LICENSE,
            (AppleAssets("cvnets/detection", f"ssd_mobilevit_{variant.lower()}_320.pt"),),
            metric="AP",
        )
        for variant, score, parameters in (
            ("XXS", 19.9, 1_755_050),
            ("XS", 24.8, 2_742_042),
            ("S", 27.9, 5_738_826),
        )
    ),
)

FAMILY = Family(
    name="mobilevit",
    builders=("MobileViTXXS", "MobileViTXS", "MobileViTS"),
    own_layers=(str(LayerName.in_block(3, 1, "unfold")),),
    key_maps=(TIMM, HUGGING_FACE, AUTHORS, AUTHORS_LATER),
    head_layers=("head_conv", "head_norm", "head_fc"),
    classifiers=("head_fc",),
    two_heads=None,
    preprocessing=_TIMM_PREPROCESSING,
    presets=PRESETS,
    dense_presets=DENSE_PRESETS,
)
