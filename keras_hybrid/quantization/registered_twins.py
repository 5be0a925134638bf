"""All quantised twins, imported, so that Keras knows them and loads models of them, deep ones too.

`rules` would do so, too, but imports the editing of models besides: every import of the package
would wait for that.
"""

from keras_hybrid.keras_private import allow_deep_models
from keras_hybrid.quantization.ranges import fake_quantize
from keras_hybrid.quantization.twins import (
    activations,
    arithmetic,
    attention,
    composites,
    float_guard,
    for_npu,
    frozen_norm,
    kernels,
    norms,
    plain,
)

__all__ = [
    "activations",
    "arithmetic",
    "attention",
    "composites",
    "fake_quantize",
    "float_guard",
    "for_npu",
    "frozen_norm",
    "kernels",
    "norms",
    "plain",
]

allow_deep_models()
