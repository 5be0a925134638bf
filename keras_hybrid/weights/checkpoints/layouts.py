"""PyTorch's and Keras' names and layouts of parameters: the only transposes of the package."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.layers import GlobalTokens, LayerScale


@dataclass(frozen=True)
class Parameter:
    """One variable of a layer, as a published checkpoint holds it.

    Attributes:
        variable: the Keras variable.
        suffix: what follows the module's name in the published key.
        shape: published shape.
        to_keras: published array -> Keras array.
        to_published: Keras array -> published array.
    """

    variable: keras.Variable
    suffix: str
    shape: tuple[int, ...]
    to_keras: Callable[[np.ndarray], np.ndarray]
    to_published: Callable[[np.ndarray], np.ndarray]


def parameters(layer: keras.layers.Layer) -> list[Parameter]:
    """The published form of each of a layer's variables; empty for a layer without any.

    Raises:
        ValueError: for a layer with variables whose class no published network has.
    """
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return [_depthwise_kernel(layer.kernel), *_vectors(bias=layer.bias)]
    if isinstance(layer, keras.layers.Conv2D):
        return [_kernel(layer.kernel), *_vectors(bias=layer.bias)]
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return [_transposed_kernel(layer.kernel), *_vectors(bias=layer.bias)]
    if isinstance(layer, keras.layers.Dense):
        return [_matrix(layer.kernel), *_vectors(bias=layer.bias)]
    if isinstance(layer, keras.layers.BatchNormalization):
        return _vectors(
            weight=layer.gamma,
            bias=layer.beta,
            running_mean=layer.moving_mean,
            running_var=layer.moving_variance,
        )
    if isinstance(layer, keras.layers.LayerNormalization):
        return _vectors(weight=layer.gamma, bias=layer.beta)
    if isinstance(layer, LayerScale):
        return [_layer_scale(layer.gamma)]
    if isinstance(layer, GlobalTokens):
        return [Parameter(layer.tokens, "weight", tuple(layer.tokens.shape), _same, _same)]
    if layer.trainable_weights:
        raise ValueError(
            "No published network has a layer of this class. "
            f"Received: layer {layer.name} of class {type(layer).__name__}"
        )
    return []


def _same(array):
    return array


def _vectors(**variables):
    return [
        Parameter(variable, suffix, tuple(variable.shape), _same, _same)
        for suffix, variable in variables.items()
        if variable is not None
    ]


def _matrix(variable):
    """Dense: (out, in) <-> (in, out)."""
    inputs, outputs = variable.shape
    return Parameter(variable, "weight", (outputs, inputs), np.transpose, np.transpose)


def _kernel(variable):
    """Convolution: (out, in, kh, kw) <-> (kh, kw, in, out)."""
    height, width, inputs, outputs = variable.shape
    return Parameter(
        variable,
        "weight",
        (outputs, inputs, height, width),
        lambda array: np.transpose(array, (2, 3, 1, 0)),
        lambda array: np.transpose(array, (3, 2, 0, 1)),
    )


def _transposed_kernel(variable):
    """Transposed convolution: (in, out, kh, kw) <-> (kh, kw, out, in)."""
    height, width, outputs, inputs = variable.shape
    return Parameter(
        variable,
        "weight",
        (inputs, outputs, height, width),
        lambda array: np.transpose(array, (2, 3, 1, 0)),
        lambda array: np.transpose(array, (3, 2, 0, 1)),
    )


def _depthwise_kernel(variable):
    """Depthwise convolution: (in * multiplier, 1, kh, kw) <-> (kh, kw, in, multiplier)."""
    height, width, inputs, multiplier = variable.shape
    published = (inputs * multiplier, 1, height, width)
    return Parameter(
        variable,
        "weight",
        published,
        lambda array: np.transpose(
            np.reshape(array, (inputs, multiplier, height, width)), (2, 3, 0, 1)
        ),
        lambda array: np.reshape(np.transpose(array, (2, 3, 0, 1)), published),
    )


def _layer_scale(variable):
    """Layer scale: (1, C, 1, 1) <-> (C,)."""
    (channels,) = variable.shape
    published = (1, channels, 1, 1)
    return Parameter(
        variable,
        "gamma",
        published,
        lambda array: np.reshape(array, (channels,)),
        lambda array: np.reshape(array, published),
    )
