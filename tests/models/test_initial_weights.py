"""How random networks start: the standard deviations that the authors' programs draw with."""

import math

import pytest

import keras_hybrid

SMALLEST = 2000  # numbers in a kernel, of which a standard deviation is within 5 %


def expected_deviation(family, layer, kernel):
    """Of a layer's kernel, by the rules in the authors' code."""
    if type(layer).__name__ == "DepthwiseConv2D":
        height, width, channels, expansion = kernel.shape
        if family == "iformer":
            return 0.02
        return math.sqrt(2 / (height * width * channels * expansion))
    if family == "iformer":
        return 0.02
    if kernel.ndim == 4:
        return math.sqrt(2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3]))
    return {"mobilevit": 0.02, "mobile_former": 0.01}[family]


@pytest.mark.parametrize(
    ("family", "name"),
    [("mobilevit", "MobileViTXS"), ("iformer", "IFormerT"), ("mobile_former", "MobileFormer96M")],
)
def test_kernels_start_with_the_authors_deviation(family, name):
    model = keras_hybrid.build_model(name, weights=None, input_shape=(64, 64, 3))
    kinds = set()
    for layer in model.layers:
        kernel = next((v.numpy() for v in layer.variables if v.name == "kernel"), None)
        if kernel is None or kernel.size < SMALLEST:
            continue
        expected = expected_deviation(family, layer, kernel)
        assert kernel.std() == pytest.approx(expected, rel=0.05), layer.name
        kinds.add(type(layer).__name__)
    assert kinds == {"Conv2D", "DepthwiseConv2D", "Dense"}


def test_normals_are_not_cut_where_the_authors_do_not_cut():
    """Cut at two deviations, 0.02 would come out as 0.0176; the authors cut at +-2."""
    kernel = keras_hybrid.IFormerT(weights=None).get_layer("head_fc").kernel.numpy()
    assert abs(kernel).max() > 3 * 0.02
