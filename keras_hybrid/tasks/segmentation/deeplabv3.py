"""DeepLabv3: dilated convolutions of several rates, side by side, on a backbone's last map.

Rethinking Atrous Convolution, https://arxiv.org/abs/1706.05587; with MobileViT as the backbone,
https://arxiv.org/abs/2110.02178, Section 4.3. Two generations of the authors' library differ in
details; their checkpoints settle both.
"""

import os

import keras
from keras import layers

from keras_hybrid.blocks import batch_norm, convolution
from keras_hybrid.layers import ResizeToReference
from keras_hybrid.models.features import feature_maps
from keras_hybrid.models.mobilevit import MobileViTS, MobileViTXS, MobileViTXXS
from keras_hybrid.tasks.backbones import check_classes, dense_model, load_system_weights

VOC_CLASSES = 21
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


def deeplabv3(
    backbone: keras.Model,
    classes: int,
    *,
    aspp_channels: int = 256,
    rates: tuple[int, ...] = RATES[16],
    dropout_rate: float = 0.1,
    channel_dropout_rate: float = 0.1,
    auxiliary: bool = False,
    weights: str | os.PathLike | None = None,
    name: str | None = None,
) -> keras.Model:
    """DeepLabv3 on a backbone.

    Args:
        backbone: any functional model with a feature map, with or without classifier; its layers
            are shared with the result. Networks of this package that know `output_stride` want 16
            or 8.
        classes: number of classes.
        aspp_channels: of each branch and of their projection.
        rates: dilation of the 3x3 branches.
        dropout_rate: of single values, after the projection.
        channel_dropout_rate: of whole channels, before the classifier.
        auxiliary: whether the output is a dict with logits of the stage before the last, too, for
            a second loss in training ("logits" and "auxiliary").
        weights: path of a checkpoint for the whole network, or None.
        name: of the model.

    Input: the backbone's. Output: logits (batch, H / s, W / s, classes), s the stride of the
    backbone's last map.

    Raises:
        ValueError: for a backbone without feature maps, or an impossible argument.

    Reference: Rethinking Atrous Convolution for Semantic Image Segmentation
    (https://arxiv.org/abs/1706.05587), Section 3.3.
    """
    check_classes(classes)
    *_, before, features = feature_maps(backbone).values()
    branches = [_convolution(features, aspp_channels, 1, "head_aspp0")]
    for index, rate in enumerate(rates, start=1):
        branches.append(_convolution(features, aspp_channels, 3, f"head_aspp{index}", rate))
    branches.append(_pooled(features, aspp_channels, f"head_aspp{len(rates) + 1}"))
    x = layers.Concatenate(name="head_concat")(branches)
    x = _convolution(x, aspp_channels, 1, "head_project")
    if dropout_rate > 0:
        x = layers.Dropout(dropout_rate, name="head_dropout")(x)
    if channel_dropout_rate > 0:
        x = layers.SpatialDropout2D(
            channel_dropout_rate, "channels_last", name="head_channel_dropout"
        )(x)
    outputs = _classifier(x, classes, "logits")
    if auxiliary:
        x = _convolution(before, max(before.shape[-1] // 4, 128), 3, "auxiliary_conv")
        x = layers.Dropout(0.1, name="auxiliary_dropout")(x)
        outputs = {"logits": outputs, "auxiliary": _classifier(x, classes, "auxiliary")}
    return dense_model(backbone, outputs, name or f"deeplabv3_{backbone.name}", weights)


def _pooled(x, channels, prefix):
    """The mean over the map, projected and stretched over the map again."""
    pooled = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name=f"{prefix}_pool")(x)
    pooled = _convolution(pooled, channels, 1, prefix)
    return ResizeToReference("bilinear", name=f"{prefix}_stretch")([pooled, x])


def _convolution(x, filters, kernel_size, name, dilation=1):
    """Convolution without bias, batch norm, ReLU."""
    x = convolution(
        x,
        filters,
        kernel_size,
        name=name,
        initializer=_initializer(),
        dilation=dilation,
    )
    x = batch_norm(x, f"{name}_norm")
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _classifier(x, classes, name):
    return layers.Conv2D(
        classes, 1, data_format="channels_last", kernel_initializer=_initializer(), name=name
    )(x)


def _initializer():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _published(variant, backbone):
    """The published network of one of the MobileViTs."""

    def builder(
        weights: str | os.PathLike | None = None,
        input_shape: tuple[int | None, int | None, int] = (512, 512, 3),
        classes: int = VOC_CLASSES,
        output_stride: int = 16,
        auxiliary: bool = False,
        name: str | None = None,
    ) -> keras.Model:
        if output_stride not in RATES:
            raise ValueError(
                f"`output_stride` must be one of {tuple(RATES)}. "
                f"Received: output_stride={output_stride!r}"
            )
        trunk = backbone(
            include_top=False, weights=None, input_shape=input_shape, output_stride=output_stride
        )
        later = output_stride == 8
        model = deeplabv3(
            trunk,
            classes,
            aspp_channels=512 if later else 256,
            rates=RATES[output_stride],
            dropout_rate=0.0 if later else 0.1,
            auxiliary=auxiliary,
            name=name or f"deeplabv3_mobilevit_{variant.lower()}",
        )

        def published():
            """The tag's network: that of stride 8 has the second head in its file."""
            if weights == "voc_stride8":
                return builder(output_stride=8, auxiliary=True)
            return builder()

        load_system_weights(model, builder.__name__, weights, published)
        return model

    builder.__name__ = builder.__qualname__ = f"DeepLabV3MobileViT{variant}"
    builder.__doc__ = f"""DeepLabv3 on MobileViT-{variant}, as published for PASCAL VOC.

    Args:
        weights: "voc" or another tag of `keras_hybrid.list_weights()`; path of a checkpoint in the
            authors' or Hugging Face's names, or of Keras, for the whole network or for its
            backbone; None for a random initialisation.
        input_shape: (height, width, 3), each 64 px or more or None.
        classes: number of classes.
        output_stride: 16, as in the paper, or 8 as in the later library (MobileViT-S was published
            so), where the branches are 512 wide and dilated by 12, 24 and 36.
        auxiliary: with the later library's second head for training: a dict "logits", "auxiliary".
        name: of the model.

    Input: (batch, H, W, 3), BGR from 0 to 1 for the published weights. Output: logits
    (batch, H / output_stride, W / output_stride, classes).

    Raises:
        ValueError: for an impossible argument.

    Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.3.
    """
    return builder


DeepLabV3MobileViTXXS = _published("XXS", MobileViTXXS)
DeepLabV3MobileViTXS = _published("XS", MobileViTXS)
DeepLabV3MobileViTS = _published("S", MobileViTS)
