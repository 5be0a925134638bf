"""SSDLite: single shot detection with separable convolutions, on a backbone's last two maps.

SSD, https://arxiv.org/abs/1512.02325; SSDLite, https://arxiv.org/abs/1801.04381, Section 6.2; with
MobileViT as the backbone, https://arxiv.org/abs/2110.02178, Section 4.2. The authors' checkpoints
settle what the papers leave open.
"""

import os

import keras
from keras import layers

from keras_hybrid.blocks import batch_norm, convolution, depthwise_convolution
from keras_hybrid.models.builder import make_builder
from keras_hybrid.models.mobilevit import MobileViTS, MobileViTXS, MobileViTXXS
from keras_hybrid.tasks.backbones import backbone_maps, check_classes, dense_model
from keras_hybrid.tasks.detection.anchors import JoinLevels, SSDAnchors, check_maps, to_config

COCO_CLASSES = 80
NATIVE_SIZE = 320
LEVELS = ("P4", "P5")
PROJECTIONS = (512, 256)  # widths of these two before their heads
EXTRA_WIDTHS = (256, 128, 128)  # of the levels of strides 64, 128 and 256
LAST_WIDTH = 64  # of the level of one cell


def ssdlite(
    backbone: keras.Model,
    classes: int,
    *,
    anchors: SSDAnchors | None = None,
    weights: str | os.PathLike | None = None,
    name: str | None = None,
) -> keras.Model:
    """SSDLite on a backbone.

    Args:
        backbone: any functional model with feature maps of strides 16 and 32, with or without
            classifier; its layers are shared with the result.
        classes: number of classes of objects; the background is one more.
        anchors: of six levels, strides 16 to 256 and one cell; None for the authors'.
        weights: path of a checkpoint for the whole network or its backbone, or None.
        name: of the model.

    Input: the backbone's. Output: a dict of "boxes" (batch, anchors, 4), offsets from the anchors,
    and "classes" (batch, anchors, 1 + classes), logits, the background first.
    `keras_hybrid.detect` makes boxes of images from them.

    Raises:
        ValueError: for a backbone without these maps, or an impossible argument.

    Reference: MobileNetV2 (https://arxiv.org/abs/1801.04381), Section 6.2; MobileViT
    (https://arxiv.org/abs/2110.02178), Section 4.2.
    """
    check_classes(classes)
    anchors = anchors or SSDAnchors()
    if anchors.strides != SSDAnchors().strides:
        raise ValueError(
            f"Anchors of the strides {SSDAnchors().strides} are expected. Received: {anchors}"
        )
    maps = list(backbone_maps(backbone, LEVELS).values())
    x = maps[-1]
    for index, width in enumerate(EXTRA_WIDTHS, start=len(LEVELS)):
        x = _separable(x, width, f"neck_level{index}", strides=2)
        maps.append(x)
    x = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name="neck_level5_pool")(x)
    x = convolution(x, LAST_WIDTH, 1, name="neck_level5", initializer=_initializer())
    maps.append(layers.Activation("relu", name="neck_level5_relu")(x))
    check_maps(anchors, backbone.inputs[0], maps)

    boxes, logits = [], []
    for index, (x, count) in enumerate(zip(maps, anchors.counts, strict=True)):
        prefix = f"head_level{index}"
        if index < len(LEVELS) and x.shape[-1] != PROJECTIONS[index]:
            x = convolution(
                x, PROJECTIONS[index], 1, name=f"{prefix}_project", initializer=_initializer()
            )
            x = batch_norm(x, f"{prefix}_project_norm")
            x = layers.Activation("relu", name=f"{prefix}_project_relu")(x)
        if index < len(maps) - 1:
            x = _depthwise(x, prefix)
        # Differs from the authors: two convolutions in place of one whose channels take turns, so
        # that in int8 offsets and logits have a range each.
        boxes.append(_values(x, count, 4, f"{prefix}_boxes"))
        logits.append(_values(x, count, 1 + classes, f"{prefix}_classes"))
    config = to_config(anchors)
    outputs = {
        "boxes": JoinLevels(config, name="boxes")(boxes),
        "classes": JoinLevels(config, name="classes")(logits),
    }
    return dense_model(backbone, outputs, name or f"ssdlite_{backbone.name}", weights)


def _separable(x, width, prefix, strides):
    """Depthwise convolution, batch norm; 1x1 convolution, batch norm, ReLU."""
    x = _depthwise(x, prefix, strides)
    x = convolution(x, width, 1, name=f"{prefix}_project", initializer=_initializer())
    return layers.Activation("relu", name=f"{prefix}_relu")(batch_norm(x, f"{prefix}_project_norm"))


def _depthwise(x, prefix, strides=1):
    x = depthwise_convolution(
        x, 3, name=f"{prefix}_depthwise", initializer=_initializer(), strides=strides
    )
    return batch_norm(x, f"{prefix}_depthwise_norm")


def _values(x, count, values, name):
    """(batch, H, W, C) -> (batch, H * W * count, values)."""
    x = convolution(x, count * values, 1, name=name, initializer=_initializer(), use_bias=True)
    return layers.Reshape((-1, values), name=f"{name}_reshape")(x)


def _initializer():
    return keras.initializers.GlorotUniform()


_BACKBONES = {"XXS": MobileViTXXS, "XS": MobileViTXS, "S": MobileViTS}


def ssdlite_mobilevit(
    variant: str,
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int | None, int | None, int] = (NATIVE_SIZE, NATIVE_SIZE, 3),
    classes: int = COCO_CLASSES,
    transformer_dropout_rate: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """The network on a row of `_BACKBONES`; the public builders document the arguments."""
    trunk = _BACKBONES[variant](
        include_top=False,
        weights=None,
        input_shape=input_shape,
        transformer_dropout_rate=transformer_dropout_rate,
    )
    name = name or f"ssdlite_mobilevit_{variant.lower()}"
    return ssdlite(trunk, classes, weights=weights, name=name)


def _docstring(variant):
    return f"""SSDLite on MobileViT-{variant}, as published for COCO.

    Args:
        weights: "coco" for the published weights; path of a checkpoint in the authors' names or of
            Keras, for the whole network or for its backbone; None for a random initialisation.
            Heads that do not fit `classes` stay fresh, with a warning.
        input_shape: (height, width, 3), each 64 px or more or None; native is (320, 320, 3).
        classes: number of classes of objects.
        transformer_dropout_rate: of the backbone; the authors train with 0.1, XXS with 0.05.
        name: of the model.

    Input: (batch, H, W, 3), normalised as `keras_hybrid.preprocess_input` does: BGR from 0 to 1
    for the published weights. Output: as of `keras_hybrid.ssdlite`.

    Raises:
        ValueError: for an impossible argument.

    Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.2 and Table 1.
    """


SSDLiteMobileViTXXS = make_builder(
    ssdlite_mobilevit, "XXS", "SSDLiteMobileViTXXS", _docstring("XXS")
)
SSDLiteMobileViTXS = make_builder(ssdlite_mobilevit, "XS", "SSDLiteMobileViTXS", _docstring("XS"))
SSDLiteMobileViTS = make_builder(ssdlite_mobilevit, "S", "SSDLiteMobileViTS", _docstring("S"))
# Those with published weights, by name.
DETECTORS = {
    builder.__name__: builder
    for builder in (SSDLiteMobileViTXXS, SSDLiteMobileViTXS, SSDLiteMobileViTS)
}
