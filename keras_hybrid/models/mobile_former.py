"""Mobile-Former: Bridging MobileNet and Transformer (CVPR 2022, https://arxiv.org/abs/2108.05895).

Mobile (inverted bottlenecks over the feature map) and Former (a transformer over a handful of
global tokens) run in parallel, joined in every block by a bridge of two cross attentions.
The published checkpoints settle what the paper leaves open.
"""

import math
import os
from dataclasses import dataclass

import keras
from keras import layers

from keras_hybrid.blocks import batch_norm, convolution, depthwise_convolution, residual
from keras_hybrid.layer_names import LayerName
from keras_hybrid.layers import (
    ChannelShuffle,
    DotProductAttention,
    DynamicReLU,
    GlobalTokens,
    SelectToken,
)
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
LAYER_NORM_EPSILON = 1e-5
BRIDGE_HEADS = 2
FORMER_HEADS = 4
FFN_EXPANSION = 2  # Section 3.3, "Former sub-block"
TOKEN_MLP_EXPANSION = 4  # Table 9, the row with MLP in place of attention
DYNAMIC_RELU_REDUCTION = 4
DOWNSAMPLE_EXPANSION = 4  # second depthwise convolution of a downsampling block, over its output
HEAD_EXPANSION = 6  # Differs from Table 10 for 52M, where a row too many says 768: checkpoints win.


@dataclass(frozen=True)
class Lite:
    """A row of Table 10 with operator "bneck-lite"."""

    expanded: int  # "#exp"
    width: int  # "#out"
    stride: int = 1


@dataclass(frozen=True)
class MobileFormer:
    """A row of Table 10 with operator "M-F"; stride 2 where the table has a down arrow."""

    expanded: int
    width: int
    stride: int = 1


@dataclass(frozen=True)
class Variant:
    """A column of Table 10, with dropout of Table 11."""

    num_tokens: int
    token_dim: int
    stem: int
    stages: dict[int, tuple]  # the number of a stage: its rows
    head: int  # FC1
    dropout_rate: float
    groups: int = 1  # of every 1x1 convolution


_STAGES_52M = {
    2: (Lite(24, 12, 2), MobileFormer(36, 12)),
    3: (MobileFormer(72, 24, 2), MobileFormer(72, 24)),
    4: (MobileFormer(144, 48, 2), MobileFormer(192, 48), MobileFormer(288, 64)),
    5: (MobileFormer(384, 96, 2), MobileFormer(576, 96)),
}

VARIANTS = {
    "26M": Variant(3, 128, 8, _STAGES_52M, 1024, 0.1, groups=4),
    "52M": Variant(3, 128, 8, _STAGES_52M, 1024, 0.2),
    "96M": Variant(
        4,
        128,
        12,
        {
            1: (Lite(24, 12),),
            2: (MobileFormer(72, 16, 2),),
            3: (MobileFormer(96, 32, 2), MobileFormer(96, 32)),
            4: (MobileFormer(192, 64, 2), MobileFormer(256, 64), MobileFormer(384, 88)),
            5: (MobileFormer(528, 128, 2), MobileFormer(768, 128)),
        },
        1280,
        0.2,
    ),
    "151M": Variant(
        6,
        192,
        12,
        {
            1: (Lite(24, 12),),
            2: (MobileFormer(72, 16, 2), MobileFormer(48, 16)),
            3: (MobileFormer(96, 32, 2), MobileFormer(96, 32)),
            4: (
                MobileFormer(192, 64, 2),
                MobileFormer(256, 64),
                MobileFormer(384, 88),
                MobileFormer(528, 88),
            ),
            5: (MobileFormer(528, 128, 2), MobileFormer(768, 128), MobileFormer(768, 128)),
        },
        1280,
        0.2,
    ),
    "214M": Variant(
        6,
        192,
        12,
        {
            1: (Lite(24, 12),),
            2: (MobileFormer(72, 20, 2), MobileFormer(60, 20)),
            3: (MobileFormer(120, 40, 2), MobileFormer(160, 40)),
            4: (
                MobileFormer(240, 80, 2),
                MobileFormer(320, 80),
                MobileFormer(480, 112),
                MobileFormer(672, 112),
            ),
            5: (MobileFormer(672, 160, 2), MobileFormer(960, 160), MobileFormer(960, 160)),
        },
        1600,
        0.2,
    ),
    "294M": Variant(
        6,
        192,
        16,
        {
            1: (Lite(32, 16),),
            2: (MobileFormer(96, 24, 2), MobileFormer(96, 24)),
            3: (MobileFormer(144, 48, 2), MobileFormer(192, 48)),
            4: (
                MobileFormer(288, 96, 2),
                MobileFormer(384, 96),
                MobileFormer(576, 128),
                MobileFormer(768, 128),
            ),
            5: (MobileFormer(768, 192, 2), MobileFormer(1152, 192), MobileFormer(1152, 192)),
        },
        1920,
        0.3,
    ),
    "508M": Variant(
        6,
        192,
        24,
        {
            1: (Lite(48, 24),),
            2: (MobileFormer(144, 40, 2), MobileFormer(120, 40)),
            3: (MobileFormer(240, 72, 2), MobileFormer(216, 72)),
            4: (
                MobileFormer(432, 128, 2),
                MobileFormer(512, 128),
                MobileFormer(768, 176),
                MobileFormer(1056, 176),
            ),
            5: (MobileFormer(1056, 240, 2), MobileFormer(1440, 240), MobileFormer(1440, 240)),
        },
        1920,
        0.3,
    ),
}


@dataclass(frozen=True)
class _Options:
    """What the blocks need to know, beside their row."""

    former: bool
    dynamic_relu: bool
    kernel_size: int
    ffn: bool
    attention: str
    groups: int


def mobile_former(
    variant: str,
    include_top: bool = True,
    weights: str | os.PathLike | None = "imagenet",
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout_rate: float | None = None,
    drop_path_rate: float = 0.0,
    num_tokens: int | None = None,
    token_dim: int | None = None,
    kernel_size: int = 3,
    former: bool = True,
    dynamic_relu: bool = True,
    ffn: bool = True,
    attention: str = "mha",
) -> keras.Model:
    """The network of a row of `VARIANTS`; the public builders document the arguments."""
    row = VARIANTS[variant]
    check_top(include_top, pooling, classes)
    dropout_rate = row.dropout_rate if dropout_rate is None else dropout_rate
    num_tokens = row.num_tokens if num_tokens is None else num_tokens
    token_dim = row.token_dim if token_dim is None else token_dim
    check_rate("dropout_rate", dropout_rate)
    check_rate("drop_path_rate", drop_path_rate)
    check_choice("kernel_size", kernel_size, (3, 5))
    check_choice("attention", attention, ("mha", "mlp"))
    if token_dim % FORMER_HEADS or token_dim < FORMER_HEADS or num_tokens < 1:
        raise ValueError(
            f"`token_dim` must be a multiple of {FORMER_HEADS} and `num_tokens` positive. "
            f"Received: token_dim={token_dim}, num_tokens={num_tokens}"
        )
    options = _Options(former, dynamic_relu, kernel_size, ffn, attention, row.groups)

    x = image = image_input(input_tensor, input_shape, NATIVE_SIZE, include_top)
    if attention == "mlp" and former and None in x.shape[1:3]:
        raise ValueError(
            "`attention='mlp'` mixes a fixed number of positions: give `input_shape` in full. "
            f"Received: input_shape={tuple(x.shape[1:])}"
        )
    x = _convolution(x, row.stem, 3, name="stem_conv", strides=2)
    x = batch_norm(x, "stem_norm")
    x = layers.ReLU(6.0, name="stem_relu")(x)
    tokens = GlobalTokens(num_tokens, token_dim, name="tokens")(x) if former else None

    num_blocks = sum(len(rows) for rows in row.stages.values())
    position = 0
    for stage, rows in row.stages.items():
        for index, block in enumerate(rows):
            position += 1
            prefix = str(LayerName.in_block(stage, index))
            rate = drop_path_rate * position / num_blocks
            if isinstance(block, Lite):
                x = _bneck_lite(x, block, options, prefix, rate)
            else:
                x, tokens = _mobile_former_block(x, tokens, block, options, prefix, rate)

    if include_top:
        if former:
            # Differs from the paper: one more Mobile->Former after the last block, as published.
            tokens = _mobile_to_former(x, tokens, options, "final", drop_path_rate)
        x = _head(x, tokens, row, options, classes, dropout_rate)
        x = predictions(x, classifier_activation)
    else:
        x = pool(x, pooling)

    return finish_model(image, x, name or f"mobile_former_{variant.lower()}", weights)


def _mobile_former_block(x, tokens, block, options, prefix, drop_path_rate):
    """Mobile-Former block (Section 3.3, Figure 3): features and tokens in, features and tokens out.

    x: (batch, H, W, C), tokens: (batch, M, d); out: (batch, H / stride, W / stride, width), tokens.
    """
    if options.former:
        tokens = _mobile_to_former(x, tokens, options, prefix, drop_path_rate)
        tokens = _former(tokens, options, prefix, drop_path_rate)
    x = _mobile(x, tokens, block, options, prefix, drop_path_rate)
    if options.former:
        x = _former_to_mobile(x, tokens, options, prefix, drop_path_rate)
    return x, tokens


def _mobile_to_former(x, tokens, options, prefix, drop_path_rate):
    """Mobile->Former, Equation 1: tokens (batch, M, d) attend over the unprojected features.

    Differs from the paper: a gate, 2 * h-sigmoid of a projection of the tokens, as published.
    """
    prefix = f"{prefix}_mobile_to_former"
    channels = x.shape[-1]
    if options.attention == "mha":
        query = _dense(tokens, channels, f"{prefix}_query")
        attention = DotProductAttention(BRIDGE_HEADS, name=f"{prefix}_attention")
        attended = attention([query, x, x])  # (batch, M, C)
    else:
        positions = math.prod(x.shape[1:3])
        attended = layers.Reshape((positions, channels), name=f"{prefix}_flatten")(x)
        attended = _mix_positions(attended, tokens.shape[1], f"{prefix}_mix")  # (batch, M, C)
    gate = _dense(tokens, channels, f"{prefix}_gate")
    gate = layers.Activation("hard_sigmoid", name=f"{prefix}_gate_sigmoid")(gate)
    gate = layers.Rescaling(2.0, name=f"{prefix}_gate_scale")(gate)
    attended = layers.Multiply(name=f"{prefix}_gated")([attended, gate])
    update = _dense(attended, tokens.shape[-1], f"{prefix}_projection")
    tokens = residual(tokens, update, name=prefix, drop_path_rate=drop_path_rate)
    return _layer_norm(tokens, f"{prefix}_norm")


def _former(tokens, options, prefix, drop_path_rate):
    """Former sub-block: multi-head attention and FFN over tokens (batch, M, d), norm after each."""
    prefix = f"{prefix}_former"
    dim = tokens.shape[-1]
    if options.attention == "mha":
        query = _dense(tokens, dim, f"{prefix}_query")
        attention = DotProductAttention(FORMER_HEADS, name=f"{prefix}_attention")
        attended = attention([query, tokens, tokens])
    else:
        num_tokens = tokens.shape[1]
        attended = _mix_positions(tokens, num_tokens * TOKEN_MLP_EXPANSION, f"{prefix}_mix_expand")
        attended = layers.Activation("gelu", name=f"{prefix}_mix_gelu")(attended)
        attended = _mix_positions(attended, num_tokens, f"{prefix}_mix_reduce")
    update = _dense(attended, dim, f"{prefix}_projection")
    tokens = residual(tokens, update, name=prefix, drop_path_rate=drop_path_rate)
    tokens = _layer_norm(tokens, f"{prefix}_norm")
    if not options.ffn:
        return tokens
    prefix = f"{prefix}_ffn"
    update = _dense(tokens, FFN_EXPANSION * dim, f"{prefix}_expand")
    update = layers.Activation("gelu", name=f"{prefix}_gelu")(update)
    update = _dense(update, dim, f"{prefix}_reduce")
    tokens = residual(tokens, update, name=prefix)  # no drop path, as published
    return _layer_norm(tokens, f"{prefix}_norm")


def _mobile(x, tokens, block, options, prefix, drop_path_rate):
    """Mobile sub-block: inverted bottleneck with DY-ReLU, of three or four convolutions.

    x: (batch, H, W, C) -> (batch, H / stride, W / stride, width).
    """
    theta_token = None
    if options.former and options.dynamic_relu:
        theta_token = SelectToken(0, name=f"{prefix}_theta_token")(tokens)
    prefix = f"{prefix}_mobile"
    if block.stride == 2:
        return _mobile_downsample(x, theta_token, block, options, prefix, drop_path_rate)
    shortcut = x
    x = _pointwise(x, block.expanded, options, f"{prefix}_expand")
    x = _shuffle(x, options, options.groups, f"{prefix}_expand_shuffle")
    x = _activation(x, theta_token, f"{prefix}_relu1")
    x = _depthwise(x, options.kernel_size, f"{prefix}_depthwise")
    x = _activation(x, theta_token, f"{prefix}_relu2")
    x = _pointwise(x, block.width, options, f"{prefix}_project")
    x = _shuffle(x, options, options.groups, f"{prefix}_project_shuffle")
    if shortcut.shape[-1] == block.width:
        x = residual(shortcut, x, name=prefix, drop_path_rate=drop_path_rate)
    return x


def _mobile_downsample(x, theta_token, block, options, prefix, drop_path_rate):
    """The Mobile sub-block of "M-F" with a down arrow: depthwise, pointwise, twice."""
    k = options.kernel_size
    channels = x.shape[-1]
    x = _depthwise(x, k, f"{prefix}_depthwise1", 2, block.expanded // channels)
    x = _shuffle(x, options, channels, f"{prefix}_depthwise1_shuffle")
    x = _activation(x, theta_token, f"{prefix}_relu1")
    x = _pointwise(x, block.width, options, f"{prefix}_project1")
    shortcut = x
    x = _depthwise(x, k, f"{prefix}_depthwise2", 1, DOWNSAMPLE_EXPANSION)
    x = _shuffle(x, options, block.width, f"{prefix}_depthwise2_shuffle")
    x = _activation(x, theta_token, f"{prefix}_relu2")
    x = _pointwise(x, block.width, options, f"{prefix}_project2")
    return residual(shortcut, x, name=prefix, drop_path_rate=drop_path_rate)


def _former_to_mobile(x, tokens, options, prefix, drop_path_rate):
    """Mobile<-Former, Equation 3: unprojected features (batch, H, W, C) attend over the tokens."""
    prefix = f"{prefix}_former_to_mobile"
    height, width, channels = x.shape[1:]
    value = _dense(tokens, channels, f"{prefix}_value")
    if options.attention == "mha":
        key = _dense(tokens, channels, f"{prefix}_key")
        attention = DotProductAttention(BRIDGE_HEADS, name=f"{prefix}_attention")
        update = attention([x, key, value])  # (batch, H, W, C)
    else:
        update = _mix_positions(value, height * width, f"{prefix}_mix")  # (batch, H * W, C)
        update = layers.Reshape((height, width, channels), name=f"{prefix}_unflatten")(update)
    return residual(x, update, name=prefix, drop_path_rate=drop_path_rate)


def _bneck_lite(x, block, options, prefix, drop_path_rate):
    """bneck-lite of stage 1: an expanding depthwise convolution and a pointwise one."""
    shortcut = x
    channels = x.shape[-1]
    x = _depthwise(x, 3, f"{prefix}_depthwise", block.stride, block.expanded // channels)
    x = layers.ReLU(6.0, name=f"{prefix}_relu")(x)
    x = _shuffle(x, options, channels, f"{prefix}_depthwise_shuffle")
    x = _pointwise(x, block.width, options, f"{prefix}_project")
    if block.stride == 1 and channels == block.width:
        x = residual(shortcut, x, name=prefix, drop_path_rate=drop_path_rate)
    return x


def _head(x, tokens, row, options, classes, dropout_rate):
    """Classification head (Table 1): features (batch, H, W, C) and tokens -> logits."""
    x = _shuffle(x, options, options.groups, "head_shuffle")
    x = _pointwise(x, HEAD_EXPANSION * x.shape[-1], options, "head_conv")
    x = layers.ReLU(6.0, name="head_relu")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(x)
    x = layers.Activation("hard_silu", name="head_pool_hswish")(x)
    if tokens is not None:
        token = SelectToken(0, name="head_token")(tokens)
        x = layers.Concatenate(name="head_concat")([x, token])
    x = _dense(x, row.head, "head_fc1")
    x = batch_norm(x, "head_fc1_norm")
    x = layers.Activation("hard_silu", name="head_fc1_hswish")(x)
    if dropout_rate > 0:
        x = layers.Dropout(dropout_rate, name="head_dropout")(x)
    return _dense(x, classes, "head_fc2")


def _activation(x, theta_token, name):
    """DY-ReLU with slopes from two dense layers on the first token; ReLU6 where it is ablated."""
    if theta_token is None:
        # Differs from Table 5's "ReLU": the authors' code has ReLU6 there, as in stem and head.
        return layers.ReLU(6.0, name=name)(x)
    theta = _dense(theta_token, theta_token.shape[-1] // DYNAMIC_RELU_REDUCTION, f"{name}_theta1")
    theta = layers.ReLU(name=f"{name}_theta1_relu")(theta)
    theta = _dense(theta, 2 * x.shape[-1], f"{name}_theta2")
    return DynamicReLU(name=name)([x, theta])


def _pointwise(x, filters, options, name):
    """1x1 convolution in the variant's groups, and batch norm."""
    x = _convolution(x, filters, 1, name=name, groups=options.groups)
    return batch_norm(x, f"{name}_norm")


def _depthwise(x, kernel_size, name, strides=1, expansion=1):
    """Depthwise convolution and batch norm."""
    # The authors draw from a normal distribution of variance 2 / (k^2 * output channels).
    initializer = keras.initializers.RandomNormal(
        stddev=math.sqrt(2 / (kernel_size**2 * expansion * x.shape[-1]))
    )
    x = depthwise_convolution(
        x, kernel_size, name=name, initializer=initializer, strides=strides, expansion=expansion
    )
    return batch_norm(x, f"{name}_norm")


def _convolution(x, filters, kernel_size, *, name, strides=1, groups=1):
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    return convolution(
        x,
        filters,
        kernel_size,
        name=name,
        initializer=initializer,
        strides=strides,
        groups=groups,
    )


def _shuffle(x, options, groups, name):
    """Channel shuffle, only in networks with grouped convolutions (26M)."""
    if options.groups == 1:
        return x
    return ChannelShuffle(groups, name=name)(x)


def _dense(x, units, name):
    initializer = keras.initializers.RandomNormal(stddev=0.01)  # the authors'
    return layers.Dense(units, kernel_initializer=initializer, name=name)(x)


def _mix_positions(x, length, name):
    """Linear over positions: (batch, N, C) -> (batch, length, C)."""
    x = layers.Permute((2, 1), name=f"{name}_transpose")(x)
    x = _dense(x, length, name)
    return layers.Permute((2, 1), name=f"{name}_transpose_back")(x)


def _layer_norm(x, name):
    return layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name)(x)


def _docstring(variant):
    row = VARIANTS[variant]
    return f"""Mobile-Former-{variant}, {row.num_tokens} tokens of dimension {row.token_dim}.

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
        dropout_rate: before the last dense layer; None for the published {row.dropout_rate}.
        drop_path_rate: of the last block; it ramps up linearly with depth.
        num_tokens: number of global tokens (Table 7); None for {row.num_tokens}.
        token_dim: their dimension, a multiple of 4 (Table 8); None for {row.token_dim}.
        kernel_size: of the depthwise convolutions in Mobile, 3 or 5 (Table 6).
        former: without Former and bridge, Mobile alone remains, with ReLU6 (Table 5).
        dynamic_relu: DY-ReLU in Mobile, or ReLU6 (Table 5).
        ffn: with the feed-forward network in Former (Table 9).
        attention: "mha", or "mlp" for linear maps over positions in its place, for a fixed
            input size (Table 9).

    Input: (batch, height, width, 3), normalised as `keras_hybrid.preprocess_input` does.
    Output: (batch, classes), or features (batch, height / 32, width / 32, channels).

    Raises:
        ValueError: for an impossible argument or an unknown option.

    Reference: Mobile-Former (https://arxiv.org/abs/2108.05895), Tables 1 and 10.
    """


MobileFormer26M = make_builder(mobile_former, "26M", "MobileFormer26M", _docstring("26M"))
MobileFormer52M = make_builder(mobile_former, "52M", "MobileFormer52M", _docstring("52M"))
MobileFormer96M = make_builder(mobile_former, "96M", "MobileFormer96M", _docstring("96M"))
MobileFormer151M = make_builder(mobile_former, "151M", "MobileFormer151M", _docstring("151M"))
MobileFormer214M = make_builder(mobile_former, "214M", "MobileFormer214M", _docstring("214M"))
MobileFormer294M = make_builder(mobile_former, "294M", "MobileFormer294M", _docstring("294M"))
MobileFormer508M = make_builder(mobile_former, "508M", "MobileFormer508M", _docstring("508M"))
