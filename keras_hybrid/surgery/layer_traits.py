"""What passes have to know of layer classes, one tuple a trait: the only place that lists them."""

import keras

from keras_hybrid.layers import (
    CropToReference,
    DotProductAttention,
    DropPath,
    FoldPatches,
    GroupedConv2D,
    LeanLayerNormalization,
    UnfoldPatches,
)

# Linear in their input, with kernel and bias that can be scaled, shifted and permuted by channel.
AFFINE = (
    keras.layers.Conv2D,
    GroupedConv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
)

# Augmentation that a model may have inside; Keras has more of it with every version.
_AUGMENTATION = (
    "AugMix",
    "CutMix",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
)

# Do nothing in inference.
TRAINING_ONLY = (
    DropPath,
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.ActivityRegularization,
    *(getattr(keras.layers, name) for name in _AUGMENTATION if hasattr(keras.layers, name)),
)

# Compute every value from that value alone.
CHANNELWISE = (keras.layers.ReLU, keras.layers.Activation)

# Move or interpolate pixels, and leave every channel to itself.
PIXEL_MOVERS = (FoldPatches, UnfoldPatches)

# Of their second (or only) input, these need the shape alone.
SHAPE_READERS = (FoldPatches, CropToReference)

# Have kernels that clip on the way out, given by `activation=`.
HAS_ACTIVATION = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)

# Clip on the way out at no cost, in an int8 file, what a layer after them clips.
FUSES_INTO = (
    *HAS_ACTIVATION,
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Subtract,
)

# Are written for the fewest operators, or (`plain_operators`) with such as TFLite has in int16.
HAVE_PLAIN_OPERATORS = (DotProductAttention, LeanLayerNormalization, FoldPatches, UnfoldPatches)
