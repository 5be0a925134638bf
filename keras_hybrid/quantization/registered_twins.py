"""All quantised twins, imported: Keras knows them then, and loads models that hold them.

The rules import more, which takes time that whoever imports the package alone need not wait.
"""

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
