"""Layers that stock Keras lacks. A layer is the unit that quantisation swaps one for one."""

from keras_hybrid.layers.channels import ChannelShuffle, SplitChannels
from keras_hybrid.layers.depth_to_space import DepthToSpace
from keras_hybrid.layers.dot_product_attention import DotProductAttention, LearnedQueryAttention
from keras_hybrid.layers.drop_path import DropPath
from keras_hybrid.layers.dynamic_relu import DynamicReLU
from keras_hybrid.layers.grouped_convolution import GroupedConv2D
from keras_hybrid.layers.layer_scale import LayerScale
from keras_hybrid.layers.normalization import LeanLayerNormalization
from keras_hybrid.layers.patches import FoldPatches, UnfoldPatches
from keras_hybrid.layers.published_weights import PublishedWeights
from keras_hybrid.layers.resizing import ResizeToReference
from keras_hybrid.layers.tokens import GlobalTokens, SelectToken
from keras_hybrid.layers.two_slope_relu import TwoSlopeReLU
from keras_hybrid.layers.windows import CropToReference, CutWindows, GlueWindows, PadToMultiple

__all__ = [
    "ChannelShuffle",
    "CropToReference",
    "CutWindows",
    "DepthToSpace",
    "DotProductAttention",
    "DropPath",
    "DynamicReLU",
    "FoldPatches",
    "GlobalTokens",
    "GlueWindows",
    "GroupedConv2D",
    "LayerScale",
    "LeanLayerNormalization",
    "LearnedQueryAttention",
    "PadToMultiple",
    "PublishedWeights",
    "ResizeToReference",
    "SelectToken",
    "SplitChannels",
    "TwoSlopeReLU",
    "UnfoldPatches",
]
