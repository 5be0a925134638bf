"""`fuse` and the pipeline of float files on whole networks: same outputs, less to compute."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid import layers as own
from keras_hybrid.surgery.pipelines import FOR_FLOAT, edited

SMALLEST = ["MobileFormer26M", "MobileViTXXS", "IFormerT"]
# Grouped convolutions get zeros between their groups so that no shuffle is left.
GROUPED = "MobileFormer26M"


def network(name, **options):
    return keras_hybrid.build_model(
        name, weights=None, input_shape=(64, 64, 3), classifier_activation=None, **options
    )


def check_fused(check_pass, model, grouped=False):
    fused = check_pass(keras_hybrid.fuse, model)
    assert grouped or fused.count_params() < model.count_params()
    for layer in fused.layers:
        assert not isinstance(
            layer,
            (layers.BatchNormalization, layers.Dropout, own.DropPath, own.ChannelShuffle),
        )
    return fused


@pytest.mark.large
@pytest.mark.parametrize("name", keras_hybrid.list_models())
def test_fused_networks_compute_the_same(check_pass, name):
    check_fused(check_pass, network(name), grouped=name == GROUPED)


@pytest.mark.large
@pytest.mark.parametrize(
    "name, options",
    [
        ("IFormerT", {"distillation": True, "layer_scale": 1e-2, "drop_path_rate": 0.2}),
        ("IFormerT", {"attention": "mha", "attention_norm": "layer"}),
        ("IFormerT", {"attention": "sha", "window_size": 4, "stem": "patchify"}),
        ("MobileViTXXS", {"patch_size": 4}),
        ("MobileFormer52M", {"former": False}),
        ("MobileFormer52M", {"attention": "mlp", "dynamic_relu": False}),
    ],
)
def test_fused_ablations_compute_the_same(check_pass, name, options):
    check_fused(check_pass, network(name, **options))


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_formulated_networks_compute_the_same(check_pass, name):
    result = check_pass(lambda model: edited(model, FOR_FLOAT).to_model(), network(name))
    for layer in result.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            assert np.prod(layer.kernel_size) <= 25
            assert layer.depth_multiplier == 1 or layer.strides != (1, 1)


@pytest.mark.large
def test_a_fused_network_keeps_names_size_freedom_and_reloads(tmp_path, fresh_process):
    model = keras_hybrid.MobileFormer26M(weights=None, input_shape=(None, None, 3), classes=5)
    fused = keras_hybrid.fuse(model)
    assert fused.name == model.name and fused.input_shape == model.input_shape
    assert {"stem_conv", "head_fc1"} <= {layer.name for layer in fused.layers}
    images = np.random.default_rng(0).normal(size=(2, 96, 64, 3)).astype("float32")
    expected = fused.predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
    fused.save(tmp_path / "fused.keras")
    (reloaded,) = fresh_process.run(tmp_path / "fused.keras", [images])
    np.testing.assert_allclose(reloaded, expected, atol=1e-6)


def test_fusing_twice_changes_nothing_more(check_pass):
    once = keras_hybrid.fuse(network("IFormerT"))
    twice = check_pass(keras_hybrid.fuse, once)
    assert twice.count_params() == once.count_params()


def test_other_networks_fuse_too(check_pass):
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(64, 64, 3), classifier_activation=None
    )
    fused = check_pass(keras_hybrid.fuse, model)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in fused.layers)


def test_a_model_that_is_not_functional_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="functional model.*Received"):
        keras_hybrid.fuse(Subclassed())
