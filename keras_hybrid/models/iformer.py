"""iFormer (ICLR 2025, https://arxiv.org/abs/2501.15369), not the Inception Transformer of 2022.

iFormer: Integrating ConvNet and Transformer for Mobile Application. ConvNeXt-like convolution
blocks with batch norm, and single-head modulation attention (SHMA) late in stage 3 and in stage 4.
The published checkpoints settle what the paper leaves open.
"""

import os
from dataclasses import dataclass

import keras
from keras import layers

from keras_hybrid.blocks import batch_norm, convolution, depthwise_convolution, residual
from keras_hybrid.layer_names import LayerName
from keras_hybrid.layers import CutWindows, DotProductAttention, GlueWindows, SplitChannels
from keras_hybrid.models.builder import (
    check_choice,
    check_rate,
    check_top,
    finish_model,
    image_input,
    make_builder,
    pool,
    predictions,
)

NATIVE_SIZE = 224
STEM_EXPANSION = 4
LAYER_NORM_EPSILON = 1e-6
MHA_HEAD_DIM = 32  # the paper does not say; the usual width of ViT heads in mobile networks
HEAD = "head"
DISTILLATION_HEAD = "head_distillation"


@dataclass(frozen=True)
class Variant:
    """A column of the paper's Table 15."""

    widths: tuple[int, int, int, int]
    blocks: tuple[int, int]  # convolution blocks in stages 1 and 2
    stage3: tuple[int, int, int]  # convolution blocks, attention blocks, convolution blocks
    stage4: int  # attention blocks
    expansion: int  # of the convolution blocks
    ffn_expansion: int  # of the feed-forward network after attention
    reductions: tuple[int, int]  # r in stages 3, 4: queries and keys are C / r wide
    # With windows, whether stage 3's last attention sees the whole map: published for M, L and L2.
    last_is_global: bool = False
    layer_scale: float | None = None


VARIANTS = {
    "T": Variant((32, 64, 128, 256), (2, 2), (6, 3, 1), 2, 3, 2, (2, 4)),
    "S": Variant((32, 64, 176, 320), (2, 2), (9, 3, 1), 2, 4, 3, (2, 4)),
    "M": Variant((48, 96, 192, 384), (2, 2), (9, 4, 1), 2, 4, 3, (2, 4)),
    "L": Variant((48, 96, 256, 384), (2, 2), (8, 8, 1), 2, 4, 3, (2, 4), True),
    "L2": Variant((64, 128, 256, 512), (3, 3), (12, 11, 1), 3, 4, 3, (2, 4), True),
    "H": Variant((96, 192, 384, 768), (5, 5), (14, 15, 1), 6, 4, 4, (1, 1), True, 1e-6),
}


@dataclass(frozen=True)
class _Options:
    """What the blocks need to know, beside their row."""

    kernel_size: int
    expansion: int
    ffn_expansion: int
    attention: str
    attention_activation: str
    attention_norm: str
    position_encoding: bool
    layer_scale: float | None


def iformer(
    variant: str,
    include_top: bool = True,
    weights: str | os.PathLike | None = "imagenet",
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    layer_scale: float | str | None = "published",
    distillation: bool = False,
    attention: str = "shma",
    attention_activation: str = "sigmoid",
    attention_norm: str = "batch",
    attention_share: float | None = None,
    stage4_attention: bool = True,
    query_key_reduction: int | None = None,
    ffn_expansion: int | None = None,
    position_encoding: bool = True,
    window_size: int | None = None,
    kernel_size: int = 7,
    stem: str = "conv",
) -> keras.Model:
    """The network of a row of `VARIANTS`; the public builders document the arguments."""
    row = VARIANTS[variant]
    check_top(include_top, pooling, classes)
    check_rate("dropout_rate", dropout_rate)
    check_rate("drop_path_rate", drop_path_rate)
    check_choice("attention", attention, ("shma", "sha", "mha"))
    check_choice("attention_activation", attention_activation, ("sigmoid", "silu"))
    check_choice("attention_norm", attention_norm, ("batch", "layer"))
    check_choice("kernel_size", kernel_size, (3, 5, 7))
    check_choice("stem", stem, ("conv", "patchify"))
    check_choice("query_key_reduction", query_key_reduction, (None, 1, 2, 4))
    if layer_scale == "published":
        layer_scale = row.layer_scale
    if layer_scale is not None and not (isinstance(layer_scale, float) and layer_scale > 0):
        raise ValueError(
            "`layer_scale` must be None, a positive float, or 'published'. "
            f"Received: layer_scale={layer_scale!r}"
        )
    if attention_share is not None and not 0 <= attention_share <= 1:
        raise ValueError(
            f"`attention_share` must be in [0, 1]. Received: attention_share={attention_share!r}"
        )
    if window_size is not None and (not isinstance(window_size, int) or window_size < 1):
        raise ValueError(
            f"`window_size` must be a positive integer. Received: window_size={window_size!r}"
        )
    if distillation and not include_top:
        raise ValueError(
            "`distillation=True` adds a head, which `include_top=False` leaves out. "
            "Received: distillation=True, include_top=False"
        )
    if ffn_expansion is not None and ffn_expansion < 1:
        raise ValueError(
            f"`ffn_expansion` must be positive. Received: ffn_expansion={ffn_expansion!r}"
        )
    options = _Options(
        kernel_size=kernel_size,
        expansion=row.expansion,
        ffn_expansion=ffn_expansion or row.ffn_expansion,
        attention=attention,
        attention_activation=attention_activation,
        attention_norm=attention_norm,
        position_encoding=position_encoding,
        layer_scale=layer_scale,
    )

    stages = _plan(row, attention_share, stage4_attention)
    rates = _drop_path_rates(stages, drop_path_rate)
    first, last = _windowed_blocks(stages[2], row.last_is_global) if window_size else (None, None)
    image = image_input(input_tensor, input_shape, NATIVE_SIZE, include_top)
    x = _stem(image, row.widths[0], stem)
    for stage, blocks in enumerate(stages, start=1):
        if stage > 1:
            x = _convolution(
                x, row.widths[stage - 1], 3, str(LayerName.in_stage(stage, "downsample")), strides=2
            )
        reduction = query_key_reduction or row.reductions[0 if stage < 4 else 1]
        for index, kind in enumerate(blocks):
            prefix = str(LayerName.in_block(stage, index))
            if kind == "conv":
                x = _conv_block(x, options, prefix, next(rates))
                continue
            # Attention block (Figure 4): RepCPE, SHMA, FFN.
            x = _position_encoding(x, options, prefix)
            if window_size is not None and (stage, index) == (3, first):
                whole = x
                x = CutWindows(window_size, name=f"{prefix}_attention_windows")(x)
            x = _single_head_attention(x, options, reduction, prefix, next(rates))
            if window_size is not None and (stage, index) == (3, last):
                x = GlueWindows(window_size, name=f"{prefix}_attention_whole")([x, whole])
            x = _feed_forward(x, options, prefix, next(rates))

    if include_top:
        x = layers.GlobalAveragePooling2D(data_format="channels_last", name=f"{HEAD}_pool")(x)
        if dropout_rate > 0:
            x = layers.Dropout(dropout_rate, name=f"{HEAD}_dropout")(x)
        logits = _head(x, classes, HEAD)
        if distillation:
            logits = layers.Average(name=f"{HEAD}_average")(
                [logits, _head(x, classes, DISTILLATION_HEAD)]
            )
        x = predictions(logits, classifier_activation)
    else:
        x = pool(x, pooling)
    return finish_model(image, x, name or f"iformer_{variant.lower()}", weights)


def training_heads(model: keras.Model) -> keras.Model:
    """The training view of an iFormer with `distillation=True`: both heads' logits, apart.

    In inference the published network averages its two heads; in training each has its own target.
    The view shares all layers and weights with `model`, so training it trains `model`.

    Args:
        model: an iFormer built with `distillation=True`.

    Returns: a model (batch, H, W, 3) -> {"head": logits, "head_distillation": logits}, each
    (batch, classes).

    Raises:
        ValueError: when the model has no distillation head.

    Reference: DeiT (https://arxiv.org/abs/2012.12877), Section 4, used by iFormer for Table 4.
    """
    names = [layer.name for layer in model.layers]
    heads = {head: f"{head}_fc" for head in (HEAD, DISTILLATION_HEAD)}
    if any(layer not in names for layer in heads.values()):
        raise ValueError(
            "The model needs two heads, as from `IFormerM(distillation=True)`. "
            f"Received: model={model.name}"
        )
    outputs = {head: model.get_layer(layer).output for head, layer in heads.items()}
    return keras.Model(model.input, outputs, name=f"{model.name}_training_heads")


def _plan(row, attention_share, stage4_attention):
    """The kinds of blocks of each stage: tuples of "conv" and "attention"."""
    before, attention, after = row.stage3
    if attention_share is not None:
        # Table 7: an attention block (attention and FFN) stands in for two convolution blocks.
        depth = before + 2 * attention + after
        attention = round(attention_share * depth / 2)
        after = min(after, depth - 2 * attention)
        before = depth - 2 * attention - after
    stage3 = ("conv",) * before + ("attention",) * attention + ("conv",) * after
    stage4 = ("attention" if stage4_attention else "conv",) * row.stage4
    return (("conv",) * row.blocks[0], ("conv",) * row.blocks[1], stage3, stage4)


def _windowed_blocks(stage3, last_is_global):
    """The first and the last block of stage 3 whose attention is in windows; None, None for none.

    Between them the windows are images of their own: position encodings see zeros at their borders.
    """
    blocks = [index for index, kind in enumerate(stage3) if kind == "attention"]
    if last_is_global:
        blocks = blocks[:-1]
    return (blocks[0], blocks[-1]) if blocks else (None, None)


def _drop_path_rates(stages, drop_path_rate):
    """Rates of the branches in order. The authors ramp over RepCPEs too, which drop nothing."""
    positions = []
    depth = 0
    for kind in (kind for blocks in stages for kind in blocks):
        positions += [depth] if kind == "conv" else [depth + 1, depth + 2]
        depth += 1 if kind == "conv" else 3
    return iter([drop_path_rate * position / (depth - 1) for position in positions])


def _stem(image, width, kind):
    """To stride 4: two 5x5 convolutions, the second expanding, and a 1x1; or patches of 4x4."""
    if kind == "patchify":
        return _convolution(image, width, 4, "stem_conv", strides=4)
    x = _convolution(image, width // 2, 5, "stem_conv1", strides=2)
    x = _gelu(x, "stem_gelu1")
    x = _convolution(x, STEM_EXPANSION * (width // 2), 5, "stem_conv2", strides=2)
    x = _gelu(x, "stem_gelu2")
    return _convolution(x, width, 1, "stem_project")


def _conv_block(x, options, prefix, drop_path_rate):
    """Convolution block (Figure 4): x + [depthwise, expand, GELU, reduce](x)."""
    channels = x.shape[-1]
    shortcut = x
    x = _depthwise(x, options.kernel_size, f"{prefix}_depthwise")
    x = _convolution(x, options.expansion * channels, 1, f"{prefix}_expand")
    x = _gelu(x, f"{prefix}_gelu")
    x = _convolution(x, channels, 1, f"{prefix}_reduce")
    return residual(
        shortcut,
        x,
        name=prefix,
        drop_path_rate=drop_path_rate,
        layer_scale=options.layer_scale,
    )


def _position_encoding(x, options, prefix):
    """RepCPE: x + depthwise 3x3 of x."""
    if not options.position_encoding:
        return x
    encoding = _depthwise(x, 3, f"{prefix}_position_encoding")
    return residual(x, encoding, name=f"{prefix}_position_encoding")


def _single_head_attention(x, options, reduction, prefix, drop_path_rate):
    """x + SHMA (or an ablation's attention) of x."""
    return residual(
        x,
        _attention(x, options, reduction, f"{prefix}_attention"),
        name=f"{prefix}_attention",
        drop_path_rate=drop_path_rate,
        layer_scale=options.layer_scale,
    )


def _feed_forward(x, options, prefix, drop_path_rate):
    """x + FFN of x: 1x1 convolutions with GELU between."""
    channels = x.shape[-1]
    shortcut = x
    prefix = f"{prefix}_feed_forward"
    x = _convolution(x, options.ffn_expansion * channels, 1, f"{prefix}_expand")
    x = _gelu(x, f"{prefix}_gelu")
    x = _convolution(x, channels, 1, f"{prefix}_reduce")
    return residual(
        shortcut,
        x,
        name=prefix,
        drop_path_rate=drop_path_rate,
        layer_scale=options.layer_scale,
    )


def _attention(x, options, reduction, prefix):
    """Single-head modulation attention (Section 3.3), SHA or MHA: (batch, H, W, C), shape stays.

    Modulation: value and gate are the sigmoids of one projection; the attended value is multiplied
    by the gate before the output projection.
    """
    channels = x.shape[-1]
    if options.attention_norm == "layer":  # Table 6, Pre-LN
        x = layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=f"{prefix}_norm")(x)
    query = _projection(x, channels // reduction, options, f"{prefix}_query")
    key = _projection(x, channels // reduction, options, f"{prefix}_key")
    gate = None
    if options.attention == "shma":
        value = _projection(x, 2 * channels, options, f"{prefix}_value_gate")
        activation = options.attention_activation
        value = layers.Activation(activation, name=f"{prefix}_{activation}")(value)
        value, gate = SplitChannels(2, name=f"{prefix}_split")(value)
    else:
        value = _projection(x, channels, options, f"{prefix}_value")
    num_heads = channels // MHA_HEAD_DIM if options.attention == "mha" else 1
    x = DotProductAttention(num_heads, name=prefix)([query, key, value])
    if gate is not None:
        x = layers.Multiply(name=f"{prefix}_modulation")([x, gate])
    return _projection(x, channels, options, f"{prefix}_project")


def _head(x, classes, name):
    """Batch norm over the pooled features, then the classifier: (batch, C) -> (batch, classes)."""
    x = batch_norm(x, f"{name}_norm")
    return layers.Dense(classes, kernel_initializer=_initializer(), name=f"{name}_fc")(x)


def _projection(x, filters, options, name):
    """1x1 convolution: with batch norm after it (Post-BN), or with a bias after layer norm."""
    if options.attention_norm == "batch":
        return _convolution(x, filters, 1, name)
    return convolution(x, filters, 1, name=name, initializer=_initializer(), use_bias=True)


def _convolution(x, filters, kernel_size, name, strides=1):
    """Convolution without bias, and batch norm."""
    x = convolution(x, filters, kernel_size, name=name, initializer=_initializer(), strides=strides)
    return batch_norm(x, f"{name}_norm")


def _depthwise(x, kernel_size, name):
    x = depthwise_convolution(x, kernel_size, name=name, initializer=_initializer())
    return batch_norm(x, f"{name}_norm")


def _gelu(x, name):
    return layers.Activation("gelu", name=name)(x)


def _initializer():
    return keras.initializers.RandomNormal(stddev=0.02)  # the authors cut at 100 times that


def _docstring(variant):
    row = VARIANTS[variant]
    end = "its last but one" if row.last_is_global else "its last"
    return f"""iFormer-{variant} (ICLR 2025).

    Args:
        include_top: with the classification head, or the last feature map only.
        weights: "imagenet" or another tag of `keras_hybrid.list_weights()` for published weights,
            the path of a checkpoint file, or None for a random initialisation. A head that does
            not fit `classes` stays fresh, with a warning.
        input_tensor: Keras tensor of images to start from.
        input_shape: (height, width, 3), 64 px or more or None each; native is (224, 224, 3).
        pooling: without head: None for the map, "avg" or "max" for a vector per image.
        classes: number of classes.
        classifier_activation: of the output; None for logits.
        name: of the model.
        dropout_rate: before the head.
        drop_path_rate: of the last branch; it ramps up linearly with depth.
        layer_scale: initial value of layer scale on every residual but RepCPE's, None for none;
            "published" for {row.layer_scale}.
        distillation: a second head; the output averages both (`training_heads` gives them apart).
        attention: "shma", or "sha" (single-head) or "mha" (multi-head) without modulation.
        attention_activation: of value and gate, "sigmoid" or "silu" (Table 6).
        attention_norm: "batch" for batch norm after each projection, "layer" for layer norm
            before them (Table 6).
        attention_share: share of stage 3 that is attention, from 0 to 1 (Table 7), where an
            attention block takes the place of two convolution blocks; None for the published.
        stage4_attention: attention blocks in stage 4, or convolution blocks (Table 7).
        query_key_reduction: r, queries and keys are C / r wide; None for {row.reductions} in
            stages 3 and 4.
        ffn_expansion: of the feed-forward network after attention; None for {row.ffn_expansion}.
        position_encoding: with RepCPE before each attention.
        window_size: stage 3's map is cut into windows of this many pixels a side (the authors use
            16 for detection and segmentation) from its first attention to {end},
            with the feed-forward networks and position encodings between; None for the whole map.
        kernel_size: of the depthwise convolution in convolution blocks: 3, 5 or 7 (Table 2).
        stem: "conv", or "patchify" for one 4x4 convolution of stride 4 (Section 3.2).

    Input: (batch, height, width, 3), normalised as `keras_hybrid.preprocess_input` does.
    Output: (batch, classes), or features (batch, height / 32, width / 32, channels).

    Raises:
        ValueError: for an impossible argument or an unknown option.

    Reference: iFormer (https://arxiv.org/abs/2501.15369), Figure 4 and Table 15.
    """


IFormerT = make_builder(iformer, "T", "IFormerT", _docstring("T"))
IFormerS = make_builder(iformer, "S", "IFormerS", _docstring("S"))
IFormerM = make_builder(iformer, "M", "IFormerM", _docstring("M"))
IFormerL = make_builder(iformer, "L", "IFormerL", _docstring("L"))
IFormerL2 = make_builder(iformer, "L2", "IFormerL2", _docstring("L2"))
IFormerH = make_builder(iformer, "H", "IFormerH", _docstring("H"))
