"""Semantic FPN: a feature pyramid network whose maps are brought to stride 4 and added.

Panoptic Feature Pyramid Networks, https://arxiv.org/abs/1901.02446; with iFormer as the backbone,
https://arxiv.org/abs/2501.15369, Section 4.3. The published checkpoints settle what the papers
leave open.
"""

import os

import keras
from keras import layers

from keras_hybrid.blocks import batch_norm, convolution
from keras_hybrid.layers import ResizeToReference
from keras_hybrid.models.iformer import IFormerL, IFormerL2, IFormerM
from keras_hybrid.tasks.backbones import (
    backbone_maps,
    check_classes,
    dense_model,
    load_system_weights,
)
from keras_hybrid.tasks.necks.feature_pyramid_network import feature_pyramid_network

LEVELS = ("P2", "P3", "P4", "P5")
ADE20K_CLASSES = 150
WINDOW_SIZE = 16


def semantic_fpn(
    backbone: keras.Model,
    classes: int,
    *,
    neck_channels: int = 256,
    head_channels: int = 128,
    dropout_rate: float = 0.1,
    weights: str | os.PathLike | None = None,
    name: str | None = None,
) -> keras.Model:
    """Semantic FPN on a backbone.

    Args:
        backbone: any functional model with feature maps of strides 4 to 32, with or without
            classifier; its layers are shared with the result.
        classes: number of classes.
        neck_channels: of the feature pyramid network.
        head_channels: of the head's convolutions.
        dropout_rate: of whole channels, before the classifier.
        weights: path of a checkpoint for the whole network, or None.
        name: of the model.

    Input: the backbone's. Output: logits (batch, H / 4, W / 4, classes).

    Raises:
        ValueError: for a backbone without these maps, or an impossible argument.

    Reference: Panoptic Feature Pyramid Networks (https://arxiv.org/abs/1901.02446), Section 3.1.
    """
    check_classes(classes)
    maps = feature_pyramid_network(backbone_maps(backbone, LEVELS), neck_channels)
    finest = maps[LEVELS[0]]
    scales = [
        _scale(maps[level], max(1, index), index, head_channels, finest, level)
        for index, level in enumerate(LEVELS)
    ]
    x = layers.Add(name="head_add")(scales)
    if dropout_rate > 0:
        x = layers.SpatialDropout2D(dropout_rate, "channels_last", name="head_dropout")(x)
    logits = layers.Conv2D(
        classes, 1, data_format="channels_last", kernel_initializer=_initializer(), name="logits"
    )(x)
    name = name or f"semantic_fpn_{backbone.name}"
    return dense_model(backbone, logits, name, weights)


def _scale(x, convolutions, doublings, channels, finest, level):
    """One level at the finest one's size: convolutions, each doubled in size after it."""
    prefix = f"head_{level.lower()}"
    for index in range(convolutions):
        x = convolution(
            x, channels, 3, name=f"{prefix}_conv{index}", initializer=_kaiming_initializer()
        )
        x = batch_norm(x, f"{prefix}_norm{index}")
        x = layers.Activation("relu", name=f"{prefix}_relu{index}")(x)
        if index < doublings:
            x = layers.UpSampling2D(2, "channels_last", "bilinear", name=f"{prefix}_double{index}")(
                x
            )
    if x.shape[1:3] != finest.shape[1:3] or None in x.shape[1:3]:
        x = ResizeToReference("bilinear", name=f"{prefix}_resize")([x, finest])
    return x


def _initializer():
    return keras.initializers.RandomNormal(stddev=0.01)  # MMSegmentation's, of a classifier


def _kaiming_initializer():
    return keras.initializers.HeNormal()


def _published(variant, backbone):
    """The published network of one of the iFormers."""

    def builder(
        weights: str | os.PathLike | None = None,
        input_shape: tuple[int | None, int | None, int] = (512, 512, 3),
        classes: int = ADE20K_CLASSES,
        window_size: int | None = WINDOW_SIZE,
        drop_path_rate: float = 0.0,
        name: str | None = None,
    ) -> keras.Model:
        trunk = backbone(
            include_top=False,
            weights=None,
            input_shape=input_shape,
            window_size=window_size,
            drop_path_rate=drop_path_rate,
        )
        name = name or f"semantic_fpn_iformer_{variant.lower()}"
        model = semantic_fpn(trunk, classes, name=name)
        load_system_weights(model, builder.__name__, weights, builder)
        return model

    builder.__name__ = builder.__qualname__ = f"SemanticFPNIFormer{variant}"
    builder.__doc__ = f"""Semantic FPN on iFormer-{variant}, as published for ADE20K.

    Args:
        weights: "ade20k"; path of a checkpoint in the authors' names (MMEngine's files) or of
            Keras, for the whole network or for its backbone; None for a random initialisation.
        input_shape: (height, width, 3), each 64 px or more or None.
        classes: number of classes.
        window_size: of stage 3's attention, in pixels; None for the whole map.
        drop_path_rate: of the backbone.
        name: of the model.

    Input: (batch, H, W, 3), normalised as `keras_hybrid.preprocess_input(x, "iformer")` does.
    Output: logits (batch, H / 4, W / 4, classes).

    Raises:
        ValueError: for an impossible argument.

    Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 4.3 and Table 5.
    """
    return builder


SemanticFPNIFormerM = _published("M", IFormerM)
SemanticFPNIFormerL = _published("L", IFormerL)
SemanticFPNIFormerL2 = _published("L2", IFormerL2)
