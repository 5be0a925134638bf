"""Values that meet on one grid, that several layers read, that are computed twice."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.signature import output_names
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.layers import DotProductAttention, TwoSlopeReLU
from keras_hybrid.quantization.quantize import profile_of, target_of
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers


def kernel(x, **options):
    return layers.Conv2D(4, 1, **options)(x)


def wide(x):
    """Of a wider range than others have."""
    return 3 * kernel(x)


def joined(function):
    return lambda x: kernel(layers.Concatenate()([function(x), wide(x)]))


def slopes(x):
    pooled = layers.GlobalAveragePooling2D()(x)
    return TwoSlopeReLU()([kernel(x), layers.Dense(4)(pooled), layers.Dense(4)(pooled)])


def pooled(x):
    return layers.MaxPooling2D(3, 1, padding="same")(x)


def tanh_twice(x):
    both = layers.Concatenate()([ops.tanh(x), ops.tanh(kernel(x))])
    return kernel(layers.Concatenate()([both, wide(x)]))


OF_OWN_RANGES = {
    "tanh": joined(ops.tanh),
    "sigmoid": joined(layers.Activation("sigmoid")),
    "softmax": joined(layers.Softmax()),
    "tanh of a kernel": joined(layers.Conv2D(4, 1, activation="tanh")),
    "two slopes": joined(slopes),
    "pooled tanh": joined(lambda x: pooled(ops.tanh(x))),
    "reshaped softmax": joined(lambda x: layers.Reshape((8, 8, 4))(layers.Softmax()(x))),
    "tanh and sigmoid": lambda x: layers.Concatenate()([ops.tanh(x), ops.sigmoid(x)]),
    "greatest": lambda x: ops.maximum(ops.tanh(x), wide(x)),
    "stack": lambda x: kernel(layers.Reshape((8, 8, 8))(ops.stack([ops.tanh(x), wide(x)], -1))),
    "joined before": tanh_twice,
    "clipped": joined(lambda x: ops.clip(x, -0.5, 0.8)),
    "clipped, of a kernel": joined(lambda x: ops.clip(3 * kernel(x), -0.5, 0.8)),
    "clipped, pooled": joined(lambda x: pooled(ops.clip(3 * kernel(x), -0.5, 0.8))),
    "clipped twice": lambda x: layers.Concatenate()(
        [ops.clip(3 * kernel(x), -0.5, 0.8), ops.clip(3 * kernel(x), -0.3, 0.3)]
    ),
}


def joined_twice(function):
    """On two grids, both of which it is brought to."""

    def model(x):
        x = function(x)
        return layers.Concatenate()(
            [joined(lambda x: x)(x), kernel(ops.concatenate([x, -9 * x], -1))]
        )

    return model


OF_OWN_RANGES["tanh, joined twice"] = joined_twice(ops.tanh)
OF_OWN_RANGES["clipped, joined twice"] = joined_twice(lambda x: ops.clip(x, -0.5, 0.8))


def read_twice(function):
    """Read by a kernel, and joined with others."""

    def model(x):
        x = function(x)
        return kernel(layers.Concatenate()([kernel(x), kernel(joined(lambda x: x)(x))]))

    return model


MOVED = {
    "pooled": read_twice(pooled),
    "pooled after a kernel": read_twice(lambda x: pooled(kernel(x))),
    "cropped": read_twice(layers.Cropping2D(1)),
    "flipped": read_twice(lambda x: ops.flip(x, 1)),
    "transposed": read_twice(lambda x: ops.transpose(x, (0, 2, 1, 3))),
}


def computed_twice(first, second):
    """Once for a kernel, once to be joined with others."""

    def model(x):
        once, again = first(x), layers.Concatenate()([second(x), wide(x)])
        return kernel(layers.Concatenate()([kernel(once), kernel(again)]))

    return model


def twice(layer, **options):
    ones = {"kernel_initializer": "ones"} if "kernel_size" in options or "units" in options else {}
    return computed_twice(layer(**options, **ones), layer(**options, **ones))


TWICE = {
    "convolution": twice(layers.Conv2D, filters=4, kernel_size=1),
    "convolution, other biases": twice(
        layers.Conv2D, filters=4, kernel_size=1, bias_initializer="normal"
    ),
    "convolution, clipped once": computed_twice(
        layers.Conv2D(4, 1, kernel_initializer="ones", activation="relu"),
        layers.Conv2D(4, 1, kernel_initializer="ones"),
    ),
    "dense": twice(layers.Dense, units=4),
    "transposed": twice(layers.Conv2DTranspose, filters=4, kernel_size=3, padding="same"),
    "norm": twice(layers.LayerNormalization),
    "silu": twice(layers.Activation, activation="silu"),
    "gelu": twice(layers.Activation, activation="gelu"),
    "square": computed_twice(lambda x: x * x, lambda x: x * x),
    "pooled": computed_twice(pooled, pooled),
    "slope": twice(layers.PReLU, alpha_initializer="ones"),
}


@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
@pytest.mark.parametrize("name", [*OF_OWN_RANGES, *MOVED, *(f"{name}, twice" for name in TWICE)])
def test_file_is_the_model(name, profile, tmp_path, require):
    require(module="ai_edge_litert")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4), name="image")
    twice = {f"{name}, twice": function for name, function in TWICE.items()}
    model = keras.Model(image, {**OF_OWN_RANGES, **MOVED, **twice}[name](image))
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 4)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model, profile), images, stream=None)
    step = np.asarray(next(x for x in fake_quantizers(quantized) if x.profile).step())
    images = np.rint(images / step) * step
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", profile)
    assert profile == "int8_cpu" or not inspect_tflite(path).integer_offenders
    (found,) = run_tflite(path, images).values()
    expected = np.asarray(quantized(images))
    differ = np.abs(found - expected) > 1e-3 * np.abs(expected).max()
    assert differ.mean() <= (0 if profile == "int8" else 1e-3)  # a softmax in float: last bits
    exact = np.asarray(model(images))
    assert np.square(found - exact).mean() < 1e-2 * np.square(exact).mean()


@pytest.mark.parametrize("use_bias", [True, False])
def test_equal_queries_and_keys_are_computed_apart(use_bias, tmp_path, require):
    """Projections that begin at zero: keys are rounded around 0, queries are not."""
    require(module="ai_edge_litert")
    image = keras.Input((4, 4, 8), name="image")
    projections = [layers.Conv2D(8, 1, use_bias=use_bias) for _ in range(2)]
    query, key = (projection(image) for projection in projections)
    model = keras.Model(image, DotProductAttention(1)([query, key, image]))
    for projection, zero in zip(projections, (0.0, -0.0), strict=True):
        projection.kernel.assign(np.full(projection.kernel.shape, zero))
    images = np.random.default_rng(0).normal(size=(8, 4, 4, 8)).astype("float32")
    path = keras_hybrid.export_tflite(
        model, tmp_path / "a.tflite", "int8", representative_data=images
    )
    (found,) = run_tflite(path, images).values()
    mean = images.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(found, np.broadcast_to(mean, found.shape), atol=0.05)


def test_what_training_may_part_is_kept_apart():
    image = keras.Input((8, 8, 4), name="image")
    made = computed_twice(
        layers.Conv2D(4, 1, kernel_initializer="zeros", name="first"),
        layers.Conv2D(4, 1, kernel_initializer="zeros", name="second"),
    )
    quantized = keras_hybrid.quantize(keras.Model(image, made(image)))
    first, second = (quantized.get_layer(name) for name in ("first", "second"))
    assert first is not second
    assert first.kernel is not second.kernel


def test_keys_that_are_joined_with_others_stay_symmetric():
    image = keras.Input((4, 4, 8), name="image")
    other, query, key = (layers.Conv2D(8, 1, name=name)(image) for name in ("a", "b", "key"))
    attended = DotProductAttention(1)([query, key, image])
    model = keras.Model(image, [attended, layers.Conv2D(4, 1)(ops.concatenate([other, key], -1))])
    roundings = {x.name: x for x in fake_quantizers(keras_hybrid.quantize(model))}
    assert "key_rounded" in roundings and roundings["key_rounded"].symmetric


@pytest.mark.parametrize("function", [lambda x: x * 0.3, lambda x: ops.tanh(x * 0.3)])
def test_others_of_the_same_input_are_no_duplicates(function):
    image = keras.Input((4, 4, 8), name="image")
    model = keras.Model(image, function(image) + ops.tanh(image * 0.4) + layers.ReLU()(image))
    quantized = keras_hybrid.quantize(model)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype("float32")
    keras_hybrid.calibrate(quantized, x, stream=None)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.1)


@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
def test_an_image_that_is_joined_remembers_the_profile(profile, tmp_path):
    image = keras.Input((8, 8, 4), name="image")
    model = keras.Model(image, kernel(layers.Concatenate()([kernel(image), pooled(image)])))
    quantized = keras_hybrid.quantize(model, profile)
    assert profile_of(quantized) == profile
    assert target_of(quantized) == ("npu" if profile == "int8" else "cpu")
    quantized.save(tmp_path / "a.keras")
    assert profile_of(keras.saving.load_model(tmp_path / "a.keras")) == profile


def least(x):
    return ops.minimum(layers.ReLU()(x), layers.UpSampling2D(1, interpolation="bilinear")(x))


def cut(x):
    return layers.Concatenate()([layers.ReLU(max_value=4)(x * x), x])[..., 2:6]


@pytest.mark.parametrize("function", [least, cut])
def test_float_that_is_given_and_rounded_stays_float(function, tmp_path, require):
    """The converter goes back from a rounding to what moves values in float, on other grids."""
    require(module="ai_edge_litert")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4), name="image")
    moved = function(image)
    scores = layers.Dense(3, name="scores")(layers.GlobalAveragePooling2D()(moved))
    model = keras.Model(image, [moved, scores])
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 4)).astype("float32")
    quantized = keras_hybrid.quantize(model, "int8_cpu")
    keras_hybrid.calibrate(quantized, images, stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8_cpu")
    found = run_tflite(path, images)
    for name, expected in zip(output_names(model), quantized(images), strict=True):
        differ = np.abs(found[name] - expected) > 1e-3 * np.abs(expected).max()
        assert differ.mean() < 1e-2
