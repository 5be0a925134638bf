"""Functions tensor -> tensor shared by two families or more. Each names its layers by a prefix."""

from keras_hybrid.blocks.convolution import (
    batch_norm,
    convolution,
    depthwise_convolution,
)
from keras_hybrid.blocks.residual import residual

__all__ = ["batch_norm", "convolution", "depthwise_convolution", "residual"]
