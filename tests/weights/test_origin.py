"""Which published weights a network has: known in files, clones, other heads and other models."""

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.weights.checkpoints.checkpoint_files import read_keras_origin
from keras_hybrid.weights.checkpoints.save import published_state_dict, swap_input_channels
from keras_hybrid.weights.origin import preset_of, remember_preset
from keras_hybrid.weights.preprocessing import preprocessing_of
from keras_hybrid.weights.presets import find_preset

APPLE = find_preset("MobileViTXXS", "imagenet_apple")
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype("uint8")


def build(**options):
    return keras_hybrid.MobileViTXXS(
        **({"weights": None, "classes": 5, "input_shape": (64, 64, 3)} | options)
    )


@pytest.fixture(scope="module")
def apple():
    """A network with Apple's weights, as far as it knows."""
    model = build()
    remember_preset(model, APPLE)
    return model


@pytest.fixture(scope="module")
def saved(apple, tmp_path_factory):
    path = tmp_path_factory.mktemp("apple") / "model.keras"
    apple.save(path)
    return path


def is_apples(model):
    np.testing.assert_allclose(
        keras_hybrid.preprocess_input(PIXELS, model), PIXELS[..., ::-1] / 255, atol=1e-6
    )
    return preset_of(model) is APPLE and preprocessing_of(model) == APPLE.preprocessing


def test_it_survives_saving_and_loading(apple, saved):
    assert is_apples(apple)
    loaded = keras.models.load_model(saved)
    assert is_apples(loaded)
    x = np.random.default_rng(1).random((1, 64, 64, 3), "float32")
    np.testing.assert_array_equal(loaded(x), apple(x))


@pytest.mark.large
def test_it_goes_where_the_trunk_goes(apple, tmp_path):
    features = apple.get_layer("head_pool").output
    other_head = keras.Model(apple.input, keras.layers.Dense(3, name="other")(features))
    image = keras.Input((64, 64, 3))
    nested = keras.Model(image, keras.layers.Dense(3)(other_head(image)))
    nested.save(tmp_path / "nested.keras")
    for model in (
        other_head,
        keras.models.clone_model(apple),
        nested,
        keras.models.load_model(tmp_path / "nested.keras"),
        keras_hybrid.fuse(apple),
    ):
        assert is_apples(model)


@pytest.mark.large
def test_it_survives_quantization(apple, tmp_path):
    quantized = keras_hybrid.quantize(apple)
    assert is_apples(quantized)
    quantized.save(tmp_path / "int8.keras")
    assert is_apples(keras.models.load_model(tmp_path / "int8.keras"))


@pytest.mark.large
def test_a_builder_takes_it_from_a_file(apple, saved, tmp_path):
    assert read_keras_origin(saved) == (APPLE.name, "BGR")
    assert is_apples(build(weights=str(saved)))
    with pytest.warns(UserWarning, match="initial values"):
        assert is_apples(build(weights=str(saved), classes=7))
    apple.save_weights(tmp_path / "model.weights.h5")
    assert read_keras_origin(tmp_path / "model.weights.h5") is None
    assert preset_of(build(weights=str(tmp_path / "model.weights.h5"))) is None


def test_files_of_before_load_and_follow_the_family(tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    for found in (keras.models.load_model(tmp_path / "model.keras"), model):
        assert preset_of(found) is None
        assert preprocessing_of(found).channel_order == "RGB"


@pytest.mark.large
def test_other_weights_are_not_taken_for_apples():
    model = build()
    remember_preset(model, APPLE)
    keras_hybrid.load_checkpoint(model, published_state_dict(build(), "timm"))
    assert preset_of(model) is None and preprocessing_of(model).channel_order == "RGB"


@pytest.mark.large
def test_turned_channels_are_remembered(saved):
    model = keras.models.load_model(saved)
    swap_input_channels(model)
    assert preprocessing_of(model).channel_order == "RGB"
    assert preprocessing_of(model).crop_fraction == APPLE.preprocessing.crop_fraction
    swap_input_channels(model)
    assert is_apples(model)


@pytest.mark.large
def test_a_new_draw_is_the_layers_own(apple):
    keras.utils.set_random_seed(3)
    plain = build().get_layer("stem_conv").kernel.numpy()
    keras.utils.set_random_seed(3)
    drawn = keras.models.clone_model(apple).get_layer("stem_conv").kernel.numpy()
    assert drawn.std() == pytest.approx(plain.std(), rel=0.2)
