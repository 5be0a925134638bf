"""How a model is read and built again: models inside, layers called twice, types, names."""

import keras
import numpy as np
import pytest
from hand_made_models import MODELS, images_for
from harness import predict, randomise, relative_error
from keras import layers

import keras_hybrid
from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.layer_traits import TRAINING_ONLY
from keras_hybrid.surgery.pipelines import FOR_INT8, edited


def fused(name):
    keras.utils.set_random_seed(0)
    return keras_hybrid.fuse(randomise(MODELS[name]()))


def count(model, *classes):
    return sum(isinstance(layer, classes) for layer in model.layers)


@pytest.mark.parametrize("name", ["transfer_learning", "siamese", "three_levels", "augmented"])
def test_norms_and_scalings_inside_of_models_are_folded(name):
    result = fused(name)
    assert count(result, layers.BatchNormalization, layers.Dropout, layers.RandomFlip) == 0


def test_what_both_sides_of_a_siamese_model_share_they_share_afterwards():
    result = fused("siamese")
    assert count(result, layers.Conv2D) == 2
    (conv, _) = (layer for layer in result.layers if isinstance(layer, layers.Conv2D))
    assert len(conv._inbound_nodes) == 2


def test_a_shared_convolution_with_norms_of_its_own_becomes_two():
    assert count(fused("shared_convolution_with_norms_of_its_own"), layers.Conv2D) == 2
    assert count(fused("shared_convolution_and_norm"), layers.Conv2D) == 1


def test_a_model_inside_stands_for_its_layers():
    editable = EditableModel(MODELS["transfer_learning"]())
    names = {step.name for step in editable.named("trunk")}
    assert "pool" in names and "predictions" not in names
    assert editable.named("pool")[0].origin == ("pool", "trunk")


def test_layers_of_one_name_in_two_models_get_names_of_their_own():
    editable = EditableModel(MODELS["two_trunks_of_equal_names"]())
    names = [step.name for step in editable.steps]
    assert len(set(names)) == len(names)
    assert {"conv", "two_conv", "norm", "two_norm"} <= set(names)


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_rebuilt_in_float32(name):
    model = randomise(MODELS[name]())
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)  # as users leave it
    try:
        result = keras_hybrid.fuse(model)
    finally:
        keras.config.set_dtype_policy(before)
    assert {layer.compute_dtype for layer in result.layers} == {"float32"}


def test_so_are_inputs_of_half_precision():
    image = keras.Input((8, 8, 3), dtype="float16")
    x = layers.Conv2D(4, 3, dtype="float16")(image)
    model = keras.Model(image, layers.Flatten(dtype="float16")(x))
    result = keras_hybrid.fuse(model)
    assert {x.dtype for x in (*result.inputs, *result.outputs)} == {"float32"}
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    exact, actual = (x.predict(images, verbose=0) for x in (model, result))
    np.testing.assert_allclose(actual, exact, atol=0.01)


@pytest.mark.parametrize("kind", [layers.Dense, lambda n, **o: layers.Conv2D(n, 1, **o)])
def test_lora_is_merged(kind):
    image = keras.Input((4, 4, 6))
    layer = kind(8, use_bias=False)
    model = keras.Model(image, layers.BatchNormalization()(layer(image)))
    layer.enable_lora(2)
    randomise(model)
    shape = layer.lora_kernel_b.shape
    layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=shape))
    images = images_for(model)
    result = keras_hybrid.fuse(model)
    assert relative_error(predict(result, images)[0], predict(model, images)[0]) < 1e-5
    assert not any("lora" in weight.path for weight in result.weights)


def test_types_of_kerass_own_quantisation_are_refused_by_name():
    image = keras.Input((8,))
    model = keras.Model(image, layers.Dense(4, name="head")(image))
    model.quantize("int8")
    with pytest.raises(ValueError, match="own quantised types.*keras_hybrid.quantize.*'head'"):
        keras_hybrid.fuse(model)


@pytest.mark.parametrize("layer", [layers.Dropout(0.5), layers.BatchNormalization()])
def test_layers_told_to_be_in_training_are_in_inference_as_in_predict(layer):
    image = keras.Input((8,))
    model = randomise(keras.Model(image, layers.Dense(4)(layer(image, training=True))))
    images = images_for(model)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(keras_hybrid.fuse(model)(images[0]), expected, atol=1e-5)


def test_a_channel_that_batch_norm_or_a_scaling_blanks_stays_blank():
    image = keras.Input((6, 6, 3))
    x = layers.Rescaling([0.0, 1.0, 1.0], [0.5, 0.0, 1.0])(image)
    norm = layers.BatchNormalization()
    model = randomise(keras.Model(image, norm(layers.Conv2D(3, 3)(x))))
    norm.gamma.assign([0.0, 1.0, 2.0])
    images = images_for(model)
    actual, wanted = predict(keras_hybrid.fuse(model), images)[0], predict(model, images)[0]
    np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_layers_for_training_alone_give_in_inference_what_they_take():
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    for kind in TRAINING_ONLY:
        if kind.__module__.startswith("keras_hybrid") or kind.__name__.endswith(("1D", "3D")):
            continue
        layer = None
        for arguments in ((0.5,), (4,), (0.1, 0.1), ()):
            try:
                layer = kind(*arguments)
                break
            except (TypeError, ValueError):
                continue
        assert layer is not None, kind
        np.testing.assert_array_equal(np.asarray(layer(images, training=False)), images)


def test_a_layer_that_cannot_be_written_down_is_the_users_own_and_stays_in_the_users_model():
    image = keras.Input((4,))
    model = keras.Model(image, layers.Dense(2)(layers.Lambda(lambda t: t + 1, name="own")(image)))
    own = model.get_layer("own")
    copied = keras_hybrid.fuse(model).get_layer("own")
    assert copied.function is own.function
    assert own.output is not copied.output, "each is called in one model"


def test_an_output_keeps_its_name_where_its_layer_went_into_another():
    result = fused("norm_at_the_output")
    assert result.output_names == ["features"]
    assert isinstance(result.get_layer("features"), layers.Conv2D)
    assert fused("linear_activations").output_names == ["predictions"]


@pytest.mark.large
@pytest.mark.parametrize("name", ["MobileFormer26M", "MobileViTXXS", "IFormerT"])
def test_the_global_setting_of_channels_first_changes_no_network_and_no_rewriting(name):
    found = []
    for setting in ("channels_last", "channels_first"):
        keras.backend.clear_session()
        keras.config.set_image_data_format(setting)
        try:
            model = keras_hybrid.build_model(name, weights=None, input_shape=(64, 64, 3))
            file = edited(model, FOR_INT8["int8"]).to_model()
            found.append([x.get_config() for x in (*model.layers, *file.layers)])
        finally:
            keras.config.set_image_data_format("channels_last")
    assert found[0] == found[1]
