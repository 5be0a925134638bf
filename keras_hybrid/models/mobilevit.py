"""MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer.

ICLR 2022, https://arxiv.org/abs/2110.02178. A MobileNetV2-like network whose last three stages end
in a MobileViT block: convolutions for what is local, a transformer over unfolded patches for what
is global. The published checkpoints settle what the paper leaves open.
"""

import math
import os
from dataclasses import dataclass

import keras
from keras import layers

from keras_hybrid.blocks import batch_norm, convolution, depthwise_convolution, residual
from keras_hybrid.layer_names import LayerName
from keras_hybrid.layers import DotProductAttention, FoldPatches, UnfoldPatches
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

NATIVE_SIZE = 256
LAYER_NORM_EPSILON = 1e-5
NUM_HEADS = 4
MLP_EXPANSION = 2
DROPOUT_RATE = 0.1
MV2_BLOCKS = {1: 1, 2: 3}  # in stages 1 and 2; the others have one, then the MobileViT block
DEPTHS = {3: 2, 4: 4, 5: 3}  # transformer layers L of the MobileViT block of a stage


@dataclass(frozen=True)
class Variant:
    """A network of the paper's Section 4.1 and Table 4."""

    expansion: int  # of the MV2 blocks
    stem: int
    widths: tuple[int, int, int, int, int]  # of stages 1 to 5
    dims: tuple[int, int, int]  # d of the transformers in stages 3 to 5
    head: int  # last 1x1 convolution


VARIANTS = {
    "XXS": Variant(2, 16, (16, 24, 48, 64, 80), (64, 80, 96), 320),
    "XS": Variant(4, 16, (32, 48, 64, 80, 96), (96, 120, 144), 384),
    "S": Variant(4, 16, (32, 64, 96, 128, 160), (144, 192, 240), 640),
}


def mobilevit(
    variant: str,
    include_top: bool = True,
    weights: str | os.PathLike | None = "imagenet",
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout_rate: float = DROPOUT_RATE,
    drop_path_rate: float = 0.0,
    patch_size: int = 2,
    transformer_dropout_rate: float = 0.0,
    output_stride: int = 32,
) -> keras.Model:
    """The network of a row of `VARIANTS`; the public builders document the arguments."""
    row = VARIANTS[variant]
    check_top(include_top, pooling, classes)
    check_rate("dropout_rate", dropout_rate)
    check_rate("drop_path_rate", drop_path_rate)
    check_rate("transformer_dropout_rate", transformer_dropout_rate)
    check_choice("patch_size", patch_size, (1, 2, 4, 8))
    check_choice("output_stride", output_stride, (8, 16, 32))

    image = image_input(input_tensor, input_shape, NATIVE_SIZE, include_top)
    x = _convolution(image, row.stem, 3, "stem_conv", strides=2)
    x = _silu(batch_norm(x, "stem_norm"), "stem_silu")

    num_layers = sum(DEPTHS.values())
    depth = 0
    stride, dilation = 2, 1  # of the map so far; of the next stage that keeps its map's size
    for stage, width in enumerate(row.widths, start=1):
        for index in range(MV2_BLOCKS.get(stage, 1)):
            strides, rate = 1, 1
            if stage > 1 and index == 0:
                if stride < output_stride:
                    strides, stride = 2, 2 * stride
                else:
                    rate, dilation = dilation, 2 * dilation
            prefix = str(LayerName.in_block(stage, index))
            x = _mv2(x, width, row.expansion, strides, prefix, rate)
        if stage in DEPTHS:
            rates = [drop_path_rate * (depth + i) / (num_layers - 1) for i in range(DEPTHS[stage])]
            depth += DEPTHS[stage]
            x = _mobilevit_block(
                x,
                row.dims[stage - 3],
                rates,
                patch_size,
                transformer_dropout_rate,
                str(LayerName.in_block(stage, 1)),
            )

    if include_top:
        x = _convolution(x, row.head, 1, "head_conv")
        x = _silu(batch_norm(x, "head_norm"), "head_silu")
        x = layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(x)
        if dropout_rate > 0:
            x = layers.Dropout(dropout_rate, name="head_dropout")(x)
        x = _dense(x, classes, "head_fc")
        x = predictions(x, classifier_activation)
    else:
        x = pool(x, pooling)
    return finish_model(image, x, name or f"mobilevit_{variant.lower()}", weights)


def _mv2(x, width, expansion, strides, prefix, dilation=1):
    """MobileNetV2 block: (batch, H, W, C) -> (batch, H / strides, W / strides, width)."""
    shortcut = x
    channels = x.shape[-1]
    x = _convolution(x, expansion * channels, 1, f"{prefix}_expand")
    x = _silu(batch_norm(x, f"{prefix}_expand_norm"), f"{prefix}_expand_silu")
    # As the authors count a depthwise kernel's fan-out: all channels.
    initializer = keras.initializers.RandomNormal(stddev=math.sqrt(2 / (9 * x.shape[-1])))
    x = depthwise_convolution(
        x,
        3,
        name=f"{prefix}_depthwise",
        initializer=initializer,
        strides=strides,
        dilation=dilation,
    )
    x = _silu(batch_norm(x, f"{prefix}_depthwise_norm"), f"{prefix}_depthwise_silu")
    x = _convolution(x, width, 1, f"{prefix}_project")
    x = batch_norm(x, f"{prefix}_project_norm")
    if strides == 1 and channels == width:
        x = residual(shortcut, x, name=prefix)
    return x


def _mobilevit_block(x, dim, drop_path_rates, patch_size, dropout_rate, prefix):
    """MobileViT block (Section 3.1, Figure 1b): local, global, fusion; shape stays.

    x: (batch, H, W, C); the transformer sees (batch, N, P, dim), with P = patch_size^2 positions of
    a patch and N = H W / P patches.
    """
    shortcut = x
    channels = x.shape[-1]
    x = _convolution(x, channels, 3, f"{prefix}_local_conv")
    x = _silu(batch_norm(x, f"{prefix}_local_norm"), f"{prefix}_local_silu")
    x = local = _convolution(x, dim, 1, f"{prefix}_local_project")

    x = UnfoldPatches(patch_size, name=f"{prefix}_unfold")(x)  # (batch, N, P, dim)
    for index, rate in enumerate(drop_path_rates):
        x = _transformer_layer(x, rate, dropout_rate, f"{prefix}_transformer{index}")
    x = _layer_norm(x, f"{prefix}_transformer_norm")
    x = FoldPatches(patch_size, name=f"{prefix}_fold")([x, local])  # (batch, H, W, dim)

    x = _convolution(x, channels, 1, f"{prefix}_project")
    x = _silu(batch_norm(x, f"{prefix}_project_norm"), f"{prefix}_project_silu")
    x = layers.Concatenate(name=f"{prefix}_concat")([shortcut, x])  # (batch, H, W, 2 * C)
    x = _convolution(x, channels, 3, f"{prefix}_fusion_conv")
    return _silu(batch_norm(x, f"{prefix}_fusion_norm"), f"{prefix}_fusion_silu")


def _transformer_layer(x, drop_path_rate, dropout_rate, prefix):
    """Pre-norm transformer layer along the patches of each position: (batch, N, P, d)."""
    dim = x.shape[-1]
    shortcut = x
    x = _layer_norm(x, f"{prefix}_attention_norm")
    query = _dense(x, dim, f"{prefix}_attention_query")
    key = _dense(x, dim, f"{prefix}_attention_key")
    value = _dense(x, dim, f"{prefix}_attention_value")
    attention = DotProductAttention(NUM_HEADS, separate_positions=True, name=f"{prefix}_attention")
    x = attention([query, key, value])
    x = _dense(x, dim, f"{prefix}_attention_project")
    x = _dropout(x, dropout_rate, f"{prefix}_attention_dropout")
    x = residual(shortcut, x, name=f"{prefix}_attention", drop_path_rate=drop_path_rate)

    shortcut = x
    x = _layer_norm(x, f"{prefix}_mlp_norm")
    x = _dense(x, MLP_EXPANSION * dim, f"{prefix}_mlp_expand")
    x = _silu(x, f"{prefix}_mlp_silu")
    x = _dense(x, dim, f"{prefix}_mlp_reduce")
    x = _dropout(x, dropout_rate, f"{prefix}_mlp_dropout")
    return residual(shortcut, x, name=f"{prefix}_mlp", drop_path_rate=drop_path_rate)


def _convolution_initializer():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _convolution(x, filters, kernel_size, name, strides=1):
    initializer = _convolution_initializer()
    return convolution(x, filters, kernel_size, name=name, initializer=initializer, strides=strides)


def _dense(x, units, name):
    initializer = keras.initializers.RandomNormal(stddev=0.02)  # the authors cut at 100 times that
    return layers.Dense(units, kernel_initializer=initializer, name=name)(x)


def _layer_norm(x, name):
    return layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name)(x)


def _dropout(x, rate, name):
    """Dropout, where there is any."""
    return layers.Dropout(rate, name=name)(x) if rate > 0 else x


def _silu(x, name):
    return layers.Activation("silu", name=name)(x)


def _docstring(variant):
    return f"""MobileViT-{variant}.

    Args:
        include_top: with the classification head, or the last feature map only.
        weights: "imagenet" or another tag of `keras_hybrid.list_weights()` for published weights,
            the path of a checkpoint file, or None for a random initialisation. A head that does
            not fit `classes` stays fresh, with a warning.
        input_tensor: Keras tensor of images to start from.
        input_shape: (height, width, 3), 64 px or more or None each; native is (256, 256, 3).
        pooling: without head: None for the map, "avg" or "max" for a vector per image.
        classes: number of classes.
        classifier_activation: of the output; None for logits.
        name: of the model.
        dropout_rate: before the last dense layer.
        drop_path_rate: of the last transformer layer; it ramps up linearly with depth.
        patch_size: height and width of a patch in pixels (1, 2, 4 or 8); a map that it does not
            divide is resized inside the block.
        transformer_dropout_rate: after the attention's and the MLP's last dense layers; the
            authors train with 0.1.
        output_stride: of the last map, 8, 16 or 32: DeepLabv3 wants 16 or 8. A stage that keeps
            the size of its map dilates its depthwise convolution where one before it kept it, too.

    Input: (batch, height, width, 3), normalised as `keras_hybrid.preprocess_input` does.
    Output: (batch, classes), or features (batch, height / output_stride, width / output_stride,
    channels).

    Raises:
        ValueError: for an impossible argument or an unknown option.

    Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.1 and Table 4.
    """


MobileViTXXS = make_builder(mobilevit, "XXS", "MobileViTXXS", _docstring("XXS"))
MobileViTXS = make_builder(mobilevit, "XS", "MobileViTXS", _docstring("XS"))
MobileViTS = make_builder(mobilevit, "S", "MobileViTS", _docstring("S"))
