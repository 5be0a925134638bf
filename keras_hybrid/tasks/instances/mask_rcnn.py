"""Mask R-CNN: regions that a small network proposes, a class, a box and a mask for each.

https://arxiv.org/abs/1703.06870; with iFormer as the backbone, https://arxiv.org/abs/2501.15369,
Section 4.2. The published checkpoints settle what the papers leave open.
"""

import os

import keras
from keras import layers

from keras_hybrid.models.iformer import IFormerL, IFormerL2, IFormerM
from keras_hybrid.tasks.backbones import (
    backbone_maps,
    check_classes,
    dense_model,
    load_system_weights,
)
from keras_hybrid.tasks.detection.anchors import check_maps
from keras_hybrid.tasks.instances.instance_detections import (
    FoldRegions,
    InstanceDetections,
    MaskOfLabel,
)
from keras_hybrid.tasks.instances.region_proposals import (
    ASPECT_RATIOS,
    STRIDES,
    ImageSize,
    RegionProposals,
    region_anchors,
)
from keras_hybrid.tasks.instances.roi_align import RoIAlign
from keras_hybrid.tasks.necks.feature_pyramid_network import feature_pyramid_network

LEVELS = ("P2", "P3", "P4", "P5")
COCO_CLASSES = 80
WINDOW_SIZE = 16
BOX_BINS, MASK_BINS = 7, 14


def mask_rcnn(
    backbone: keras.Model,
    classes: int,
    *,
    channels: int = 256,
    box_units: int = 1024,
    mask_convolutions: int = 4,
    max_proposals: int = 1000,
    max_detections: int = 100,
    weights: str | os.PathLike | None = None,
    name: str | None = None,
) -> keras.Model:
    """Mask R-CNN on a backbone.

    Args:
        backbone: any functional model with feature maps of strides 4 to 32, with or without
            classifier; its layers are shared with the result.
        classes: number of classes of objects; the background is one more.
        channels: of the pyramid, the region proposal network and the mask head.
        box_units: width of the box head's two dense layers.
        mask_convolutions: of the mask head, before its transposed one.
        max_proposals: regions of each image that the box head looks into.
        max_detections: objects of each image at most.
        weights: path of a checkpoint for the whole network or its backbone, or None.
        name: of the model.

    Input: the backbone's. Output: a dict of "boxes" (batch, max_detections, 4), corners in pixels
    of the input, the best first; "scores" (batch, max_detections), 0 where there is no object;
    "labels" (batch, max_detections), -1 there; "masks" (batch, max_detections, 28, 28), from 0 to
    1, of each box. `keras_hybrid.detect` makes objects of images from them.

    Raises:
        ValueError: for a backbone without these maps, or an impossible argument.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3 and Figure 4, right.
    """
    check_classes(classes)
    for key, value in (
        ("channels", channels),
        ("box_units", box_units),
        ("mask_convolutions", mask_convolutions),
        ("max_proposals", max_proposals),
        ("max_detections", max_detections),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{key}` must be a positive integer. Received: {key}={value!r}")
    pyramid = list(feature_pyramid_network(backbone_maps(backbone, LEVELS), channels).values())
    coarsest = layers.MaxPooling2D(1, 2, data_format="channels_last", name="neck_p6_pool")(
        pyramid[-1]
    )
    check_maps(region_anchors(), backbone.inputs[0], [*pyramid, coarsest])
    logits, offsets = _region_proposal_network([*pyramid, coarsest], channels)
    size = ImageSize(name="head_size")(backbone.inputs[0])
    regions, _ = RegionProposals(max_proposals, name="head_regions")([*logits, *offsets, size])
    x = RoIAlign(BOX_BINS, STRIDES[:-1], name="head_box_align")([*pyramid, regions])
    class_logits, box_offsets = _box_head(x, classes, box_units)
    boxes, scores, labels = InstanceDetections(max_detections, name="head_detections")(
        [regions, class_logits, box_offsets, size]
    )
    x = RoIAlign(MASK_BINS, STRIDES[:-1], name="head_mask_align")([*pyramid, boxes])
    mask_logits = _mask_head(x, classes, channels, mask_convolutions)
    outputs = {
        "boxes": boxes,
        "scores": scores,
        "labels": labels,
        "masks": MaskOfLabel(name="head_masks")([mask_logits, labels]),
    }
    return dense_model(backbone, outputs, name or f"mask_rcnn_{backbone.name}", weights)


def _region_proposal_network(maps, channels):
    """Logits (batch, H, W, 3) and offsets (batch, H, W, 12) of each level."""
    normal = {"kernel_initializer": lambda: keras.initializers.RandomNormal(stddev=0.01)}
    shared = _convolution(channels, 3, "head_rpn_conv", **normal)
    to_logits = _convolution(len(ASPECT_RATIOS), 1, "head_rpn_logits", **normal)
    to_offsets = _convolution(4 * len(ASPECT_RATIOS), 1, "head_rpn_offsets", **normal)
    logits, offsets = [], []
    for number, x in enumerate(maps, start=2):
        x = layers.Activation("relu", name=f"head_rpn_p{number}_relu")(shared(x))
        logits.append(to_logits(x))
        offsets.append(to_offsets(x))
    return logits, offsets


def _box_head(x, classes, units):
    """(batch, n, 7, 7, C) -> (batch, n, classes + 1), (batch, n, 4 * classes)."""
    values = BOX_BINS * BOX_BINS * x.shape[-1]
    x = layers.Reshape((-1, values), name="head_box_flatten")(x)
    for index in range(2):
        x = layers.Dense(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(),
            name=f"head_box_fc{index}",
        )(x)
        x = layers.Activation("relu", name=f"head_box_relu{index}")(x)
    return tuple(
        layers.Dense(
            count,
            kernel_initializer=keras.initializers.RandomNormal(stddev=deviation),
            name=f"head_box_{kind}",
        )(x)
        for kind, count, deviation in (
            ("logits", classes + 1, 0.01),
            ("offsets", 4 * classes, 1e-3),
        )
    )


def _mask_head(x, classes, channels, convolutions):
    """(batch, n, 14, 14, C) -> (batch * n, 28, 28, classes)."""
    x = FoldRegions(name="head_mask_fold")(x)
    for index in range(convolutions):
        x = _convolution(channels, 3, f"head_mask_conv{index}")(x)
        x = layers.Activation("relu", name=f"head_mask_relu{index}")(x)
    x = layers.Conv2DTranspose(
        channels,
        2,
        strides=2,
        data_format="channels_last",
        kernel_initializer=_kaiming(),
        name="head_mask_double",
    )(x)
    x = layers.Activation("relu", name="head_mask_double_relu")(x)
    return _convolution(classes, 1, "head_mask_logits")(x)


def _kaiming():
    """PyTorch's `kaiming_normal_` of the outputs, which MMDetection starts mask heads with."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _convolution(filters, kernel_size, name, kernel_initializer=_kaiming):
    return layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        data_format="channels_last",
        kernel_initializer=kernel_initializer(),
        name=name,
    )


def _published(variant, backbone):
    """The published network of one of the iFormers."""

    def builder(
        weights: str | os.PathLike | None = None,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        classes: int = COCO_CLASSES,
        window_size: int | None = WINDOW_SIZE,
        drop_path_rate: float = 0.0,
        max_proposals: int = 1000,
        max_detections: int = 100,
        name: str | None = None,
    ) -> keras.Model:
        trunk = backbone(
            include_top=False,
            weights=None,
            input_shape=input_shape,
            window_size=window_size,
            drop_path_rate=drop_path_rate,
        )
        model = mask_rcnn(
            trunk,
            classes,
            max_proposals=max_proposals,
            max_detections=max_detections,
            name=name or f"mask_rcnn_iformer_{variant.lower()}",
        )
        load_system_weights(model, builder.__name__, weights, builder)
        return model

    builder.__name__ = builder.__qualname__ = f"MaskRCNNIFormer{variant}"
    builder.__doc__ = f"""Mask R-CNN on iFormer-{variant}, as published for COCO.

    Args:
        weights: "coco"; path of a checkpoint in the authors' names (MMEngine's files) or of
            Keras, for the whole network or for its backbone; None for a random initialisation.
        input_shape: (height, width, 3), each 64 px or more or None.
        classes: number of classes of objects.
        window_size: of stage 3's attention, in pixels of its map; None for the whole map.
        drop_path_rate: of the backbone.
        max_proposals: regions of each image that the box head looks into.
        max_detections: objects of each image at most.
        name: of the model.

    Input: (batch, H, W, 3), normalised as `keras_hybrid.preprocess_input(x, "iformer")` does.
    Output: as of `keras_hybrid.mask_rcnn`.

    Raises:
        ValueError: for an impossible argument.

    Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 4.2 and Table 5.
    """
    return builder


MaskRCNNIFormerM = _published("M", IFormerM)
MaskRCNNIFormerL = _published("L", IFormerL)
MaskRCNNIFormerL2 = _published("L2", IFormerL2)
# Those with published weights, by name.
MASK_RCNNS = {
    builder.__name__: builder for builder in (MaskRCNNIFormerM, MaskRCNNIFormerL, MaskRCNNIFormerL2)
}
