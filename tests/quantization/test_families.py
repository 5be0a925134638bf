"""The three families' networks in int8, at small sizes with random weights.

All sixteen, at the size they were published for:
`python comparisons/benchmark_int8.py --models=...` lists what in "int8" would be in float.
"""

import numpy as np
import pytest
from harness import randomise

SIZE = 64
SMALLEST = ("MobileFormer26M", "MobileViTXXS", "IFormerT")
OTHERS = ("MobileViTS", "IFormerM")
# What the papers' ablations change about which layers there are.
ABLATIONS = (
    ("MobileFormer26M", {"former": False}),
    ("MobileFormer26M", {"dynamic_relu": False, "kernel_size": 5}),
    ("MobileFormer26M", {"attention": "mlp"}),
    ("MobileFormer26M", {"ffn": False, "num_tokens": 9, "token_dim": 64}),
    ("MobileViTXXS", {"patch_size": 4}),
    ("IFormerT", {"attention": "mha", "position_encoding": False}),
    ("IFormerT", {"attention_activation": "silu", "attention_norm": "layer", "layer_scale": 0.1}),
    ("IFormerT", {"stage4_attention": True, "window_size": 2, "distillation": True}),
)


@pytest.fixture
def network():
    import keras_hybrid

    def build(name, **options):
        shape = (SIZE, SIZE, 3)
        return randomise(keras_hybrid.build_model(name, weights=None, input_shape=shape, **options))

    return build


@pytest.fixture
def quantized(network):
    import keras_hybrid

    def quantize(name, profile, target=None, **options):
        return keras_hybrid.quantize(network(name, **options), profile, target=target)

    return quantize


@pytest.fixture
def inspected(quantized, tmp_path, require):
    """What is in a network's file; ranges as a single image gives them."""
    require(module="ai_edge_litert")
    import keras_hybrid
    from keras_hybrid.export.inspect import inspect_tflite

    def inspect(name, profile, target=None):
        image = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, 3)).astype("float32")
        model = keras_hybrid.calibrate(quantized(name, profile, target), image, stream=None)
        path = tmp_path / f"{name}.tflite"
        return inspect_tflite(keras_hybrid.export_tflite(model, path, precision=profile))

    return inspect


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_int8_is_int8_throughout_and_small(inspected, network, tmp_path, name):
    """An NPU's file has more operators, which count at this size."""
    import keras_hybrid

    full = keras_hybrid.export_tflite(network(name), tmp_path / "float.tflite")
    for target, most in (("cpu", 0.28), ("npu", 0.3)):
        found = inspected(name, "int8", target)
        assert found.integer_offenders == ()
        assert {"CONV_2D", "FULLY_CONNECTED"} <= set(found.ops)
        assert found.size_bytes <= most * full.stat().st_size


@pytest.mark.large
@pytest.mark.parametrize("name", OTHERS)
def test_every_layer_has_a_twin(quantized, name):
    from keras_hybrid.quantization.report import float_layers

    assert float_layers(quantized(name, "int8")) == {}


@pytest.mark.large
@pytest.mark.parametrize("name, options", ABLATIONS)
def test_every_layer_of_an_ablation_has_a_twin(quantized, name, options):
    from keras_hybrid.quantization.report import float_layers

    assert float_layers(quantized(name, "int8", **options)) == {}


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_int8_cpu_is_one_partition(inspected, name):
    found = inspected(name, "int8_cpu")
    assert found.partitions == 1 and not found.undelegated
    assert not found.custom_ops and not found.flex_ops
