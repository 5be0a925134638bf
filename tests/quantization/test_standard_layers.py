"""Layers and operations of stock Keras through int8: no float, and what Keras computes."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import keras_hybrid
from keras_hybrid.quantization.rules import Rule


def conv(x, filters=8, kernel=3, **options):
    return L.Conv2D(filters, kernel, padding="same", **options)(x)


def tokens(x):
    return L.Reshape((-1, x.shape[-1]))(x)


def two(x):
    return [conv(x), conv(x)]


def attention(x, layer, **options):
    return layer(*[tokens(conv(x, 16)) for _ in range(2)], **options)


def siamese_dot(x):
    return L.Dot(1)([L.GlobalAveragePooling2D()(y) for y in two(x)])


# Behind a convolution of stride 2: 8 x 8 pixels of 8 channels.
OPERATIONS = {
    "divided": lambda x: x / 4.0,
    "divided_by_channel": lambda x: x / np.linspace(1, 4, 8).astype("float32"),
    "scaled_and_shifted": lambda x: 3.0 - 2.0 * x + 0.5,
    "negative": lambda x: -x,
    "square": lambda x: ops.square(x),
    "mean": lambda x: ops.mean(x, (1, 2), keepdims=True),
    "sum": lambda x: ops.sum(x, -1, keepdims=True),
    "max": lambda x: ops.max(x, (1, 2)),
    "slices": lambda x: x[:, ::2, 1:, :4],
    "concatenate": lambda x: ops.concatenate(two(x), -1),
    "stack": lambda x: ops.stack(two(x), 1),
    "split": lambda x: ops.add(*ops.split(x, 2, -1)),
    "squeeze": lambda x: ops.expand_dims(ops.squeeze(x[:, :1], 1), 1),
    "flip": lambda x: conv(ops.flip(x, 2)),
    "silu": ops.silu,
    "gelu": lambda x: ops.gelu(x),
    "exact_gelu": lambda x: ops.gelu(x, approximate=False),
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.3),
    "elu": lambda x: ops.elu(x, 0.7),
    "tanh": ops.tanh,
    "clip": lambda x: ops.clip(x, -0.5, 1.0),
    "clip_twice_used": lambda x: ops.clip(x, -0.5, 1.0) + x,
    "relu_by_maximum": lambda x: ops.maximum(x, 0.0),
    "part_of_a_split": lambda x: ops.split(x, [2, 5], axis=-1)[1] * 2.0,
    "part_of_an_unstack": lambda x: ops.unstack(x, axis=1)[2] * 2.0,
    "maximum": lambda x: ops.maximum(*two(x)),
    "minimum": lambda x: ops.minimum(*two(x)),
    "resize": lambda x: ops.image.resize(x, (5, 12)),
    "resize_antialiased": lambda x: ops.image.resize(x, (5, 5), antialias=True),
    "matmul": lambda x: ops.matmul(tokens(x), ops.transpose(tokens(x), (0, 2, 1))),
    "matmul_by_constant": lambda x: ops.matmul(x, np.eye(8, 5, dtype="float32") + 0.1),
}
LAYERS = {
    "linear_after_kernel": lambda x: L.Add()([conv(x), L.Activation("linear")(conv(x))]),
    "relu_to_4": L.ReLU(max_value=0.5),
    "relu_with_slope": L.ReLU(negative_slope=0.2),
    "relu_with_slope_to_1": L.ReLU(negative_slope=0.2, max_value=1.0),
    "Softmax": L.Softmax(),
    "SeparableConv2D": L.SeparableConv2D(12, 3, depth_multiplier=2, activation="relu"),
    "Conv2DTranspose": L.Conv2DTranspose(6, 3, 2, padding="same"),
    "Conv2DTranspose_valid": L.Conv2DTranspose(6, (3, 4), 2, activation="relu"),
    "Conv2DTranspose_sparse": L.Conv2DTranspose(6, 2, 3),
    "MultiHeadAttention": lambda x: attention(x, L.MultiHeadAttention(2, 4, value_dim=6)),
    "Attention": lambda x: L.Attention()([tokens(y) for y in two(x)]),
    "Dot": siamese_dot,
    "Dot_of_sequences": lambda x: L.Dot((1, 1))([tokens(y) for y in two(x)]),
    "PReLU": L.PReLU(shared_axes=[1, 2], alpha_initializer="random_uniform"),
    "PReLU_fresh": L.PReLU(),
    "ELU": L.ELU(),
    "ELU_of_2": L.ELU(2.0),
    "selu": L.Activation("selu"),
    "mish": L.Activation("mish"),
    "softplus": L.Activation("softplus"),
    "exponential": L.Activation("exponential"),
    "activation_of_a_function": L.Activation(lambda x: ops.tanh(x) * 0.5),
    "activation_of_a_partial": L.Activation(
        functools.partial(keras.activations.gelu, approximate=True)
    ),
    "kernel_with_a_function": L.Conv2D(8, 3, activation=lambda x: ops.tanh(x) * 0.5),
    "kernel_with_selu": L.Conv2D(8, 3, activation="selu"),
    "kernel_with_mish": L.Dense(8, activation="mish"),
    "kernels_in_place_of_others": lambda x: L.Conv1D(8, 3, activation=lambda t: ops.tanh(t) * 0.5)(
        tokens(L.SeparableConv2D(8, 3, activation="elu")(x))
    ),
    "norm_of_a_vector": lambda x: L.ReLU()(L.BatchNormalization()(L.GlobalMaxPooling2D()(x))),
    "norm_of_a_sequence": lambda x: L.ReLU()(L.BatchNormalization()(tokens(x))),
    "Resizing": L.Resizing(16, 12),
    "Resizing_nearest": L.Resizing(16, 16, interpolation="nearest"),
    "CenterCrop": L.CenterCrop(5, 4),
    "bilinear": L.UpSampling2D(2, interpolation="bilinear"),
    "bicubic": L.UpSampling2D(2, interpolation="bicubic"),
    "GlobalAveragePooling1D": lambda x: L.GlobalAveragePooling1D()(tokens(x)),
    "GlobalMaxPooling1D": lambda x: L.GlobalMaxPooling1D()(tokens(x)),
    "AveragePooling1D": lambda x: L.AveragePooling1D(2)(tokens(x)),
    "Conv1D": lambda x: L.Conv1D(8, 3, 2, activation="relu")(tokens(x)),
    "Conv1D_causal": lambda x: L.Conv1D(8, 3, padding="causal", dilation_rate=2)(tokens(x)),
    "Average": lambda x: L.Average()([*two(x), x]),
    "Maximum": lambda x: L.Maximum()([*two(x), x]),
    "Minimum": lambda x: L.Minimum()(two(x)),
    "GroupNormalization": L.GroupNormalization(4),
    "UnitNormalization": L.UnitNormalization(),
}


def network(small_network, function):
    def with_ends(image):
        y = function(conv(image, strides=2))
        return L.Flatten()(y) if len(y.shape) != 4 else conv(y, 4, 1)

    return small_network(with_ends)


@pytest.mark.large
@pytest.mark.parametrize(
    "function",
    [pytest.param(f, id=name) for name, f in {**OPERATIONS, **LAYERS}.items()],
)
def test_int8_has_no_float_and_computes_what_keras_does(small_network, through_int8, function):
    result = through_int8(network(small_network, function))
    assert result.inspection.integer_offenders == ()
    assert result.from_float >= 25
    assert result.from_keras >= 35


def test_all_layers_without_a_rule_are_named_at_once(small_network):
    def function(image):
        x = ops.sort(L.Activation("softsign", name="curve")(conv(image)), axis=1)
        return L.AlphaDropout(0.1)(ops.divide(x, conv(image)))

    model = small_network(function)
    with pytest.raises(ValueError, match="no quantised twin") as error:
        keras_hybrid.quantize(model)
    for part in (
        "activation 'softsign' ('curve'): take one of ",
        "operation keras.ops Sort",
        "rules={'Sort'",
        "keras.ops Divide",
        "multiply by a reciprocal",
        "keep_float=('curve', ",
    ):
        assert part in str(error.value), part


@pytest.mark.parametrize("key", ["sort", "Sort", ops.sort])
def test_rules_name_operations(small_network, key):
    model = small_network(lambda image: conv(ops.sort(conv(image), axis=1)))
    keras_hybrid.quantize(model, rules={key: Rule()})
    with pytest.raises(ValueError, match="no quantised twin"):
        keras_hybrid.quantize(model, rules={"argsort": Rule()})
    with pytest.raises(ValueError, match="`rules` must map layer classes"):
        keras_hybrid.quantize(model, rules={key: "int8"})


def test_a_users_rule_comes_before_the_rewrite(small_network):
    model = small_network(lambda image: L.SeparableConv2D(4, 3, name="sep")(image))
    quantized = keras_hybrid.quantize(model, rules={L.SeparableConv2D: Rule()})
    assert type(quantized.get_layer("sep")) is L.SeparableConv2D


def test_what_is_kept_float_is_so_in_all_its_parts(small_network, through_int8):
    model = small_network(lambda image: conv(L.SeparableConv2D(8, 3, name="sep")(conv(image))))
    result = through_int8(model, keep_float="sep")
    producers = {tensor.producer for tensor in result.inspection.float_tensors}
    assert {"DEPTHWISE_CONV_2D", "CONV_2D"} <= producers
    assert result.from_keras >= 40


class Doubled(L.Layer):
    """The converter has no int8 operator for what it computes."""

    def call(self, inputs):
        return ops.arctan2(inputs, inputs * inputs + 1.0)


@pytest.mark.large
def test_float_that_nobody_asked_for_is_refused(small_network, make_images, tmp_path):
    model = small_network(lambda image: conv(Doubled(name="curve")(conv(image))))
    quantized = keras_hybrid.quantize(model, rules={Doubled: Rule()})
    keras_hybrid.calibrate(quantized, make_images(), stream=None)
    path = tmp_path / "x.tflite"
    with pytest.raises(ValueError, match="must have no operator in float.*`keep_float=`"):
        keras_hybrid.export_tflite(quantized, path, precision="int8")
    assert not list(tmp_path.iterdir())
    kept = keras_hybrid.quantize(model, keep_float="curve")
    keras_hybrid.calibrate(kept, make_images(), stream=None)
    keras_hybrid.export_tflite(kept, path, precision="int8")


@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
def test_a_file_has_the_profile_of_its_model(small_network, make_images, tmp_path, profile):
    quantized = keras_hybrid.quantize(small_network(lambda x: conv(x)), profile)
    keras_hybrid.calibrate(quantized, make_images(), stream=None)
    quantized.save(tmp_path / "q.keras")
    other = {"int8": "int8_cpu", "int8_cpu": "int8"}[profile]
    for model in (quantized, keras.models.load_model(tmp_path / "q.keras")):
        with pytest.raises(ValueError, match=f"quantised for '{profile}'.*Received: .*'{other}'"):
            keras_hybrid.export_tflite(model, tmp_path / "x.tflite", precision=other)
