"""The published segmentation systems by name."""

import keras

from keras_hybrid.tasks.segmentation.deeplabv3 import (
    DeepLabV3MobileViTS,
    DeepLabV3MobileViTXS,
    DeepLabV3MobileViTXXS,
)
from keras_hybrid.tasks.segmentation.semantic_fpn import (
    SemanticFPNIFormerL,
    SemanticFPNIFormerL2,
    SemanticFPNIFormerM,
)
from keras_hybrid.weights.presets import list_weights

SYSTEMS = {
    builder.__name__: builder
    for builder in (
        DeepLabV3MobileViTXXS,
        DeepLabV3MobileViTXS,
        DeepLabV3MobileViTS,
        SemanticFPNIFormerM,
        SemanticFPNIFormerL,
        SemanticFPNIFormerL2,
    )
}


def build_system(name: str, weights: str | None = None) -> keras.Model:
    """A system with published weights, or those of a file.

    Args:
        name: one of `SYSTEMS`.
        weights: a tag of `keras_hybrid.list_weights()` or a file; None for its first tag.

    Raises:
        ValueError: for an unknown tag, or a file that does not fit.
        DownloadError: where published weights cannot be had.
    """
    weights = weights or list_weights(name)[0].tag
    options = {"output_stride": 8} if weights == "voc_stride8" else {}
    return SYSTEMS[name](weights=weights, **options)
