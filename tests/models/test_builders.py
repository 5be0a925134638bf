"""The builders' arguments: meaning, training behaviour, and clear errors for bad ones."""

import inspect

import keras
import numpy as np
import pytest
from harness import assert_close, predict, relative_error
from networks import build_network

import keras_hybrid

SMALLEST = ["MobileFormer26M", "MobileViTXXS", "IFormerT"]


def build(name, **options):
    if "weights" in options or "input_tensor" in options:
        return keras_hybrid.build_model(name, **({"weights": None, "classes": 10} | options))
    return build_network(name, **({"classes": 10} | options))


def images(*size, batch=2):
    return np.random.default_rng(0).standard_normal((batch, *size, 3)).astype("float32")


def copy_weights(source, target):
    target.set_weights(source.get_weights())
    return target


def randomise(model):
    """Gives every weight a value of its own, so that nothing is hidden by a zero or a one."""
    random = np.random.default_rng(0)
    model.set_weights(
        [
            w * random.uniform(0.5, 1.5, w.shape)
            + (0.1 * random.random(w.shape) if w.ndim == 1 else 0)
            for w in model.get_weights()
        ]
    )
    return model


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_any_size_gives_what_the_static_size_gives(name):
    anywhere = randomise(build(name, input_shape=(None, None, 3)))
    for size in ((64, 64), (65, 97), (100, 76)):
        static = copy_weights(anywhere, build(name, input_shape=(*size, 3)))
        x = images(*size)
        assert_close(predict(anywhere, [x]), predict(static, [x]), 1e-5)


@pytest.mark.large
def test_windowed_attention_takes_any_size_and_is_whole_attention_in_one_window():
    anywhere = randomise(build("IFormerT", input_shape=(None, None, 3), window_size=8))
    x = images(96, 160)
    static = copy_weights(anywhere, build("IFormerT", input_shape=(96, 160, 3), window_size=8))
    windowed = predict(static, [x])
    assert_close(predict(anywhere, [x]), windowed, 1e-5)
    whole = copy_weights(anywhere, build("IFormerT", input_shape=(96, 160, 3)))
    assert relative_error(windowed[0], predict(whole, [x])[0]) > 1e-4
    # Stage 3 of 128 px is 8 x 8: one window of 8.
    x = images(128, 128)
    one = copy_weights(anywhere, build("IFormerT", input_shape=(128, 128, 3), window_size=8))
    none = copy_weights(anywhere, build("IFormerT", input_shape=(128, 128, 3)))
    assert_close(predict(one, [x]), predict(none, [x]), 1e-6)


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_without_head_there_are_features(name):
    model = build(name, include_top=False)
    assert model.input_shape == (None, None, None, 3)
    (features,) = predict(model, [images(64, 96)])
    assert features.shape[:3] == (2, 2, 3)
    channels = features.shape[-1]
    for pooling, reduce in {"avg": np.mean, "max": np.max}.items():
        pooled = copy_weights(model, build(name, include_top=False, pooling=pooling))
        assert pooled.output_shape == (None, channels)
        assert_close(predict(pooled, [images(64, 96)]), [reduce(features, axis=(1, 2))], 1e-5)


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_an_input_tensor_is_built_upon(name):
    image = keras.Input((64, 64, 3))
    model = build(name, input_tensor=image)
    assert model.input is image
    raw = keras.Input((64, 64, 3))
    scaled = keras.layers.Rescaling(1 / 255)(raw)
    on_top = copy_weights(model, build(name, input_tensor=scaled))
    x = images(64, 64)
    assert_close(predict(on_top, [255 * x]), predict(model, [x]), 1e-5)


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_the_classifier_activation_is_the_output_s(name):
    logits = build(name, input_shape=(64, 64, 3), classifier_activation=None)
    softmax = copy_weights(logits, build(name, input_shape=(64, 64, 3)))
    (z,) = predict(logits, [images(64, 64)])
    e = np.exp(z - z.max(-1, keepdims=True))
    assert_close(predict(softmax, [images(64, 64)]), [e / e.sum(-1, keepdims=True)], 1e-6)


@pytest.mark.large
def test_distillation_averages_two_heads_and_trains_them_apart():
    model = randomise(
        build("IFormerT", input_shape=(64, 64, 3), distillation=True, classifier_activation=None)
    )
    heads = keras_hybrid.training_heads(model)
    x = images(64, 64)
    logits = {name: np.asarray(value) for name, value in heads(x).items()}
    assert set(logits) == {"head", "head_distillation"}
    assert relative_error(logits["head"], logits["head_distillation"]) > 1e-3
    assert_close(predict(model, [x]), [(logits["head"] + logits["head_distillation"]) / 2], 1e-6)
    heads.compile("sgd", {name: "mse" for name in logits}, jit_compile=False)
    before = model.get_layer("head_distillation_fc").kernel.numpy().copy()
    heads.train_on_batch(x, {"head": logits["head"], "head_distillation": logits["head"]})
    assert np.abs(model.get_layer("head_distillation_fc").kernel.numpy() - before).max() > 0
    with pytest.raises(ValueError, match="two heads"):
        keras_hybrid.training_heads(build("IFormerT", input_shape=(64, 64, 3)))


@pytest.mark.parametrize(
    ("name", "last", "first_rate"),
    [
        ("MobileFormer26M", "final_mobile_to_former_drop_path", 0.3 * 2 / 9),
        ("MobileViTXXS", "stage5_block1_transformer2_mlp_drop_path", 0.3 / 8),
        ("IFormerT", "stage4_block1_feed_forward_drop_path", 0.3 / 25),
    ],
)
def test_drop_path_ramps_up_with_depth_and_acts_in_training_only(name, last, first_rate):
    model = build(name, input_shape=(64, 64, 3), drop_path_rate=0.3, dropout_rate=0.0)
    rates = {layer.name: layer.rate for layer in model.layers if layer.name.endswith("drop_path")}
    assert max(rates.values()) == rates[last] == pytest.approx(0.3)
    assert min(rates.values()) == pytest.approx(first_rate)
    x = images(64, 64)
    assert_close(predict(model, [x]), predict(model, [x]), 0)
    branch = model.get_layer(last)
    ones = np.ones((400, *branch.output.shape[1:]), "float32")
    dropped = np.asarray(branch(ones, training=True)).reshape(400, -1)[:, 0] == 0
    assert 0.2 < dropped.mean() < 0.4


@pytest.mark.large
def test_published_dropout_is_the_default():
    for name, rate in {
        "MobileFormer26M": 0.1,
        "MobileFormer52M": 0.2,
        "MobileFormer294M": 0.3,
        "MobileViTXXS": 0.1,
    }.items():
        assert build(name).get_layer("head_dropout").rate == rate, name
    names = {layer.name for layer in build("MobileFormer26M", dropout_rate=0.0).layers}
    assert "head_dropout" not in names


def test_patch_size_changes_what_attends_to_what():
    two = randomise(build("MobileViTXXS", input_shape=(64, 64, 3)))
    four = copy_weights(two, build("MobileViTXXS", input_shape=(64, 64, 3), patch_size=4))
    x = images(64, 64)
    assert relative_error(predict(four, [x])[0], predict(two, [x])[0]) > 1e-5


def test_attention_share_is_the_published_at_the_published_share():
    published = [layer.name for layer in build("IFormerM").layers]
    assert [layer.name for layer in build("IFormerM", attention_share=0.5).layers] == published


@pytest.mark.large
def test_pyramid_strides_and_use_as_a_backbone():
    for name in SMALLEST:
        model = build(name, include_top=False)
        pyramid = keras_hybrid.feature_pyramid(model)
        maps = keras.Model(model.input, pyramid)(images(96, 128))
        assert list(maps) == ["P1", "P2", "P3", "P4", "P5"]
        for level, features in enumerate(maps.values(), start=1):
            assert tuple(features.shape[1:3]) == (96 >> level, 128 >> level), (name, level)
        assert maps["P5"].shape[-1] == model.output_shape[-1]
        assert_close([np.asarray(maps["P5"])], predict(model, [images(96, 128)]), 1e-6)
    with pytest.raises(ValueError, match="strides 2, 4, 8 and more"):
        keras_hybrid.feature_pyramid(
            keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)])
        )


@pytest.mark.large
def test_pyramid_survives_saving(tmp_path):
    model = build("MobileFormer26M", include_top=False)
    model.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    shapes = {level: t.shape for level, t in keras_hybrid.feature_pyramid(loaded).items()}
    assert shapes == {level: t.shape for level, t in keras_hybrid.feature_pyramid(model).items()}


def test_builders_document_themselves():
    assert len(keras_hybrid.list_models()) == 16
    for name in keras_hybrid.list_models():
        builder = getattr(keras_hybrid, name)
        assert builder.__name__ == name
        parameters = inspect.signature(builder).parameters
        assert list(parameters)[:8] == [
            "include_top",
            "weights",
            "input_tensor",
            "input_shape",
            "pooling",
            "classes",
            "classifier_activation",
            "name",
        ]
        for parameter in parameters:
            assert f"{parameter}: " in builder.__doc__, f"{name} does not document {parameter}"


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (64, 64, 1)}, r"\(64, 64, 1\)"),
        ({"input_shape": (64, 64)}, r"\(64, 64\)"),
        ({"input_shape": (63, 64, 3)}, "at least 64 px"),
        ({"input_shape": (64.0, 64, 3)}, "at least 64 px"),
        ({"classes": 0}, "classes=0"),
        ({"classes": "10"}, "classes='10'"),
        ({"include_top": False, "pooling": "mean"}, "pooling='mean'"),
        ({"dropout_rate": 1.0}, "dropout_rate=1.0"),
        ({"drop_path_rate": -0.1}, "drop_path_rate=-0.1"),
        ({"weights": "no-such-file.weights.h5"}, "no-such-file"),
        ({"weights": "imagenette"}, "imagenette"),
        ({"dropuot_rate": 0.1}, "Did you mean `dropout_rate`"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, "must be a Keras tensor"),
        (
            {"input_tensor": keras.Input((64, 64, 3)), "input_shape": (96, 96, 3)},
            "contradict each other",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments_are_refused_with_what_came(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("MobileFormer26M", {"kernel_size": 7}, "kernel_size=7"),
        ("MobileFormer26M", {"token_dim": 30}, "token_dim=30"),
        ("MobileFormer26M", {"num_tokens": 0}, "num_tokens=0"),
        ("MobileFormer26M", {"attention": "sha"}, "attention='sha'"),
        ("MobileFormer26M", {"attention": "mlp", "input_shape": (None, None, 3)}, "in full"),
        ("MobileViTXXS", {"patch_size": 3}, "patch_size=3"),
        ("IFormerT", {"attention": "mlp"}, "attention='mlp'"),
        ("IFormerT", {"attention_activation": "relu"}, "attention_activation='relu'"),
        ("IFormerT", {"attention_norm": "group"}, "attention_norm='group'"),
        ("IFormerT", {"attention_share": 1.5}, "attention_share=1.5"),
        ("IFormerT", {"layer_scale": -1.0}, "layer_scale=-1.0"),
        ("IFormerT", {"window_size": 0}, "window_size=0"),
        ("IFormerT", {"kernel_size": 4}, "kernel_size=4"),
        ("IFormerT", {"stem": "dense"}, "stem='dense'"),
        ("IFormerT", {"query_key_reduction": 3}, "query_key_reduction=3"),
        ("IFormerT", {"ffn_expansion": 0}, "ffn_expansion=0"),
        ("IFormerT", {"distillation": True, "include_top": False}, "include_top=False"),
    ],
)
def test_bad_family_options_are_refused_with_what_came(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean `MobileViTXS`"):
        keras_hybrid.build_model("MobileVitXS")
