"""RetinaNet: a feature pyramid, and two heads of convolutions that all its levels share.

https://arxiv.org/abs/1708.02002; with Mobile-Former as the backbone,
https://arxiv.org/abs/2108.05895, Section 4.2. No code of that is published: what its "standard
settings" leave open follows from the parameters and multiply-adds of its Table 4.
"""

import math
import os

import keras
from keras import layers

from keras_hybrid.blocks import convolution
from keras_hybrid.models.mobile_former import (
    MobileFormer151M,
    MobileFormer214M,
    MobileFormer294M,
    MobileFormer508M,
)
from keras_hybrid.tasks.backbones import backbone_maps, check_classes, dense_model
from keras_hybrid.tasks.detection.anchors import JoinLevels, RetinaNetAnchors, check_maps, to_config
from keras_hybrid.tasks.necks.feature_pyramid_network import feature_pyramid_network

COCO_CLASSES = 80
CHANNELS = 256
LEVELS = ("P3", "P4", "P5")
HEAD_CONVOLUTIONS = 4
PRIOR = 0.01  # probability of every class of every anchor at the start


def retinanet(
    backbone: keras.Model,
    classes: int,
    *,
    channels: int = CHANNELS,
    head_convolutions: int = HEAD_CONVOLUTIONS,
    anchors: RetinaNetAnchors | None = None,
    weights: str | os.PathLike | None = None,
    name: str | None = None,
) -> keras.Model:
    """RetinaNet on a backbone.

    Args:
        backbone: any functional model with feature maps of strides 8, 16 and 32, with or without
            classifier; its layers are shared with the result.
        classes: number of classes.
        channels: of the pyramid and of the heads' convolutions.
        head_convolutions: of each head, before its output's.
        anchors: of five levels, strides 8 to 128; None for the paper's.
        weights: path of a checkpoint for the whole network or its backbone, or None.
        name: of the model.

    Input: the backbone's. Output: a dict of "boxes" (batch, anchors, 4), offsets from the anchors,
    and "classes" (batch, anchors, classes), logits before a sigmoid each. `keras_hybrid.detect`
    makes boxes of images from them.

    Raises:
        ValueError: for a backbone without these maps, or an impossible argument.

    Reference: RetinaNet (https://arxiv.org/abs/1708.02002), Section 4; Mobile-Former
    (https://arxiv.org/abs/2108.05895), Section 4.2 and Table 4.
    """
    check_classes(classes)
    for key, value in (("channels", channels), ("head_convolutions", head_convolutions)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{key}` must be a positive integer. Received: {key}={value!r}")
    anchors = anchors or RetinaNetAnchors()
    if anchors.strides != RetinaNetAnchors().strides:
        raise ValueError(
            f"Anchors of the strides {RetinaNetAnchors().strides} are expected. Received: {anchors}"
        )
    pyramid = feature_pyramid_network(backbone_maps(backbone, LEVELS), channels)
    maps = list(pyramid.values())
    for level in ("p6", "p7"):  # of P5 and of P6, without an activation between
        maps.append(
            convolution(
                maps[-1],
                channels,
                3,
                name=f"neck_{level}_output",
                initializer=keras.initializers.GlorotUniform(),
                strides=2,
                use_bias=True,
            )
        )
    check_maps(anchors, backbone.inputs[0], maps)
    count = anchors.counts[0]
    config = to_config(anchors)
    outputs = {}
    for kind, values, bias in (
        ("boxes", 4, 0.0),
        ("classes", classes, -math.log((1 - PRIOR) / PRIOR)),
    ):
        shared = [_convolution(channels, f"head_{kind}_conv{i}") for i in range(head_convolutions)]
        last = _convolution(count * values, f"head_{kind}_output", bias)
        found = []
        for number, x in enumerate(maps, start=3):
            for index, layer in enumerate(shared):
                x = layers.Activation("relu", name=f"head_{kind}_p{number}_relu{index}")(layer(x))
            x = layers.Reshape((-1, values), name=f"head_{kind}_p{number}_reshape")(last(x))
            found.append(x)  # (batch, H * W * count, values)
        outputs[kind] = JoinLevels(config, name=kind)(found)
    return dense_model(backbone, outputs, name or f"retinanet_{backbone.name}", weights)


def _convolution(filters, name, bias=0.0):
    """A 3x3 convolution that all levels share."""
    return layers.Conv2D(
        filters,
        3,
        padding="same",
        data_format="channels_last",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )


def _published(variant, backbone):
    """The paper's network on one of the Mobile-Formers."""

    def builder(
        weights: str | os.PathLike | None = None,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        classes: int = COCO_CLASSES,
        name: str | None = None,
    ) -> keras.Model:
        trunk = backbone(include_top=False, weights=None, input_shape=input_shape)
        name = name or f"retinanet_mobile_former_{variant.lower()}"
        return retinanet(trunk, classes, weights=weights, name=name)

    builder.__name__ = builder.__qualname__ = f"RetinaNetMobileFormer{variant}"
    builder.__doc__ = f"""RetinaNet on Mobile-Former-{variant}, as the paper measures it on COCO.

    No weights of it are published.

    Args:
        weights: path of a checkpoint in MMDetection's names or of Keras, for the whole network or
            for its backbone; None for a random initialisation.
        input_shape: (height, width, 3), each 64 px or more or None.
        classes: number of classes.
        name: of the model.

    Input: (batch, H, W, 3), normalised as `keras_hybrid.preprocess_input(x, "mobile_former")` does.
    Output: as of `keras_hybrid.retinanet`.

    Raises:
        ValueError: for an impossible argument.

    Reference: Mobile-Former (https://arxiv.org/abs/2108.05895), Section 4.2 and Table 4.
    """
    return builder


RetinaNetMobileFormer151M = _published("151M", MobileFormer151M)
RetinaNetMobileFormer214M = _published("214M", MobileFormer214M)
RetinaNetMobileFormer294M = _published("294M", MobileFormer294M)
RetinaNetMobileFormer508M = _published("508M", MobileFormer508M)
