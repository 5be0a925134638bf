"""Values half way between two steps: Keras rounds them as the kernels of the file do."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid import keras_private
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.layers import DotProductAttention, LeanLayerNormalization, TwoSlopeReLU
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.ranges.freezing import freeze_ranges
from keras_hybrid.quantization.twins.kernels import QuantizedKernel

STEP = 1 / 16
PRODUCTS = ("scores", "normalized", "lines")  # inside of layers


def in_halves(function, count=64):
    """A quantised model whose sums lie half way between two steps half of the time, and images.

    The image and what layers give are on a grid of `STEP`, but for what is called "fine", of half
    of that, and so are products inside of layers; kernels are in halves.
    """
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 6), name="image")
    model = keras.Model(image, function(image))
    images = random.integers(-40, 41, (count, 8, 8, 6)).astype("float32") * STEP
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    for rounding in fake_quantizers(quantized):
        outside = any(rounding is layer for layer in quantized.layers)
        if rounding.fixed_range is None and (outside or rounding.name in PRODUCTS):
            step = STEP / 2 if rounding.name.startswith("fine") else STEP
            rounding.set_range(-128 * step, 127 * step)
    freeze_ranges(quantized)
    for kernel in quantized.layers:
        if isinstance(kernel, QuantizedKernel):
            kernel.frozen = True
            kernel.kernel.assign(random.integers(-2, 3, kernel.kernel.shape) / 2)
            kernel.kernel_range["max_var"].assign(
                np.full(kernel.kernel_range["max_var"].shape, 63.5)
            )
            kernel.kernel_range["min_var"].assign(
                np.full(kernel.kernel_range["max_var"].shape, -63.5)
            )
            if kernel.use_bias:
                kernel.bias.assign(random.integers(-20, 21, kernel.bias.shape) * STEP / 2)
    return quantized, images


def halved(x):
    return layers.Conv2D(6, 1, name="fine")(x)


def two_maps(layer):
    return lambda x: layer([halved(x), layers.Conv2D(6, 1, name="other")(x)])


def hard_swish(x):
    return layers.Activation("hard_silu", name="curve")(layers.Conv2D(6, 1, name="before")(x))


def clipped_twice(first, second):
    def function(x):
        x = layers.Conv2D(6, 1, name="read_twice")(x)
        parts = [layers.Conv2D(6, 1)(first(x)), layers.Conv2D(6, 1)(second(x))]
        return layers.Add()(parts)

    return function


def attention(x):
    query, key, value = (layers.Conv2D(8, 1, name=name)(x) for name in ("query", "key", "value"))
    return DotProductAttention(2, name="x")([query, key, value])


def two_slopes(x):
    pooled = layers.GlobalAveragePooling2D()(x)
    slopes = [layers.Dense(6, name=name)(pooled) for name in ("first", "second")]
    return TwoSlopeReLU(name="x")([layers.Conv2D(6, 1, name="before")(x), *slopes])


CASES = {
    "convolution": layers.Conv2D(5, 3, padding="same", name="x"),
    "with ReLU inside": layers.Conv2D(5, 3, activation="relu", name="x"),
    "ReLU6 after it": lambda x: layers.ReLU(6.0)(layers.Conv2D(5, 1, name="x")(x)),
    "depthwise": layers.DepthwiseConv2D(3, name="x"),
    "dense": layers.Dense(7, name="x"),
    "dense on vectors": lambda x: layers.Dense(7, name="x")(layers.Flatten()(x[:, :1, :2])),
    "sum": two_maps(layers.Add(name="x")),
    "difference": two_maps(layers.Subtract(name="x")),
    "mean": lambda x: layers.GlobalAveragePooling2D(keepdims=True, name="x")(halved(x)),
    "average": layers.AveragePooling2D(2, name="x"),
    "averages of borders": layers.AveragePooling2D(3, 2, padding="same", name="x"),
    "hard swish": hard_swish,
    "layer norm": lambda x: LeanLayerNormalization(name="x")(layers.Conv2D(16, 1)(x)),
    "layer norm of vectors": lambda x: layers.LayerNormalization(name="x")(
        layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1)(x))
    ),
    "two slopes": two_slopes,
    "resized by thirds": layers.Resizing(12, 20, name="x"),
    "product": two_maps(layers.Multiply(name="x")),
    "SiLU": lambda x: layers.Activation("silu", name="x")(layers.Conv2D(6, 1, name="before")(x)),
    "attention": attention,
    "matrix product": lambda x: keras.ops.matmul(
        layers.Reshape((64, 8))(layers.Conv2D(8, 1)(x)),
        layers.Reshape((8, 64))(layers.Conv2D(8, 1)(x)),
    ),
    "clipped twice alike": clipped_twice(layers.Activation("relu"), layers.ReLU()),
    "clipped otherwise": clipped_twice(layers.ReLU(), layers.ReLU(6.0)),
    "clipped and not": clipped_twice(layers.ReLU(), layers.Activation("linear")),
}
GRAPH_DIFFERS = {"convolution", "depthwise", "dense", "average", "with ReLU inside"}


@pytest.mark.parametrize("name", CASES)
def test_keras_gives_the_integers_of_the_file(name, tmp_path, require):
    require(module="ai_edge_litert")
    quantized, images = in_halves(CASES[name])
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    eager = np.asarray(quantized(images, training=False))
    assert len(np.unique(eager)) > 20
    np.testing.assert_array_equal(np.rint(eager / STEP), np.rint(found / STEP))
    predicted = quantized.predict(images, verbose=0)
    np.testing.assert_array_equal(np.rint(predicted / STEP), np.rint(found / STEP))
    assert not inspect_tflite(path).float_tensors


@pytest.mark.parametrize("size", [4, 5, 8])
@pytest.mark.parametrize("zeros", [(-97, -103), (20, 83), (0, 0), (-100, 97)])
def test_means_next_to_half_a_step_are_those_of_the_file(size, zeros, tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((size, size, 64), name="image")
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(image)
    model = keras.Model(image, layers.Conv2D(4, 1, name="next")(mean))
    quantized = keras_hybrid.quantize(model, "int8_cpu")
    keras_hybrid.calibrate(quantized, random.normal(size=(8, *image.shape[1:])), stream=None)
    input_step = np.float32(0.023)
    output_step = float(input_step) / size**2 / 1.5 * (1 + 1e-7)  # a sum is one and a half steps
    ranges = [x for x in fake_quantizers(quantized) if x.name in ("image_rounded", "mean_rounded")]
    for rounding, zero, step in zip(ranges, zeros, (float(input_step), output_step), strict=True):
        rounding.set_range((-128 - zero) * step, (127 - zero) * step)
    kernel = quantized.get_layer("next")
    kernel.kernel.assign(np.eye(64, 4)[None, None])  # gives four of the means
    kernel.reset_range()
    (output,) = [x for x in fake_quantizers(quantized) if x.name == "next_rounded"]
    output.set_range(*ranges[1].range)
    low, high = max(-128 - zeros[0], -12), min(127 - zeros[0], 12)
    integers = random.integers(low, high + 1, (200, *image.shape[1:]))
    sums = np.abs(integers.sum((1, 2), keepdims=True) * 1.5)
    integers = np.where(sums < 200, integers, 0)
    images = (integers * input_step).astype("float32")
    path = keras_hybrid.export_tflite(quantized, tmp_path / "mean.tflite", "int8_cpu")
    (expected,) = run_tflite(path, images).values()
    assert len(np.unique(expected)) > 40
    np.testing.assert_allclose(quantized(images), expected, atol=output_step / 100)


@pytest.mark.parametrize("length", [2, 6, 49])
def test_softmax_is_that_of_the_file(length, tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((10, 20, length), name="image")
    model = keras.Model(image, layers.Softmax(name="x")(image))
    images = random.normal(size=(100, 10, 20, length)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    rounded = fake_quantizers(quantized)[0]
    rounded.set_range(-128 * 0.037, 127 * 0.037)
    images = np.rint(images / 0.037) * rounded.step()
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    np.testing.assert_array_equal(np.asarray(quantized(images)) * 256, found * 256)


@pytest.mark.large
def test_softmax_inside_of_attention_is_that_of_the_file(tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((10, 20, 8), name="image")
    query, map_ = (layers.Conv2D(8, 1, name=name)(image) for name in ("query", "map"))
    tokens = layers.Reshape((6, 8))(map_[:, :2, :3])
    model = keras.Model(image, DotProductAttention(2, name="x")([query, tokens, tokens]))
    images = random.normal(size=(400, 10, 20, 8)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images[:20], stream=None)
    rounded = fake_quantizers(quantized)[0]
    rounded.set_range(-128 * 0.037, 127 * 0.037)
    images = np.rint(images / 0.037) * rounded.step()
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    np.testing.assert_allclose(quantized(images), found, atol=1e-3 * found.max())


LONG = 4096  # sums of so many products
GRID, WEIGHTS = np.float32(0.0181), 0.0013


def long_sums_of(quantized, path, images, step):
    """Keras' outputs and the file's, in steps.

    Args:
        quantized: of an image to long sums.
        path: of the file.
        images: whole numbers, in steps of `GRID`.
        step: of the outputs, in products of a step of `GRID` and one of what it is multiplied by.
    """
    first, *others, last = fake_quantizers(quantized)
    for rounding in (first, *others):
        rounding.set_range(-127 * GRID, 127 * GRID)
    last.set_range(-128 * step, 127 * step)
    keras_hybrid.export_tflite(quantized, path, "int8")
    images = (images * first.step()).numpy()
    (expected,) = run_tflite(path, images).values()
    assert len(np.unique(expected)) > 40
    return np.rint(quantized(images, training=False) / step), np.rint(expected / step)


def quantized_dense(kernel, step=WEIGHTS):
    """A quantised layer of 16 sums over an image's channels, its kernel in steps."""
    random = np.random.default_rng(0)
    image = keras.Input((1, 1, LONG), name="image")
    quantized = keras_hybrid.quantize(keras.Model(image, layers.Dense(16, name="x")(image)))
    keras_hybrid.calibrate(quantized, random.normal(size=(8, 1, 1, LONG)), stream=None)
    quantized.get_layer("x").kernel.assign(kernel * step)
    quantized.get_layer("x").reset_range()
    return quantized


def cancelling(random, shape):
    """Whole numbers of which the second half all but cancels the first."""
    first = random.integers(30, 111, shape)
    rest = random.integers(-3, 4, shape) * (random.uniform(size=shape) < 0.01)
    return np.concatenate([first, rest - first], axis=-1)


def test_sums_of_thousands_of_products_are_exact(tmp_path, require):
    """Of the values themselves, float32's sums would be several steps of the integers' off."""
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    kernel = random.integers(-127, 128, (LONG // 2, 16))
    kernel[0] = 127
    quantized = quantized_dense(np.concatenate([kernel, kernel]))
    images = cancelling(random, (500, 1, 1, LONG // 2))
    step = 16 * GRID * WEIGHTS
    np.testing.assert_array_equal(*long_sums_of(quantized, tmp_path / "a.tflite", images, step))


def test_matrix_products_of_thousands_are_exact(tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((8, LONG, 1), name="image")
    rows = layers.Reshape((8, LONG))(image)
    product = keras.ops.matmul(rows[:, :4], keras.ops.swapaxes(rows[:, 4:], -1, -2))
    quantized = keras_hybrid.quantize(keras.Model(image, product))
    keras_hybrid.calibrate(quantized, random.normal(size=(2, 8, LONG, 1)), stream=None)
    first = random.integers(30, 111, (200, 4, LONG // 2))
    second = cancelling(random, (200, 4, LONG // 2))
    images = np.concatenate([np.concatenate([first, first], axis=-1), second], axis=1)[..., None]
    step = 16 * GRID * GRID
    np.testing.assert_array_equal(*long_sums_of(quantized, tmp_path / "a.tflite", images, step))


MILLIONS = 2**17  # products in a step of the outputs
OF_GRID = 254 / 255  # a step of the image's, whose range -127 to 127 steps of `GRID` has 256 values


def sums_of_millions():
    """Rows, and a column, whose products' sums are next to half a step of `MILLIONS`."""
    half_steps = MILLIONS // 2 * (2 * np.arange(30, 127) + 1)
    totals = (half_steps[:, None] + np.arange(-3, 4)).ravel()
    totals = totals[totals < 2**24]
    whole, rest = np.divmod(totals, 127)
    rows = np.clip(whole[:, None] - 127 * np.arange(LONG - 1), 0, 127)
    column = np.full(LONG, 127)
    column[-1] = 1
    return np.concatenate([rows, rest[:, None]], axis=1), column


@pytest.mark.parametrize("weights", [0.0017, 0.0021, 0.0029])
def test_sums_of_millions_are_counted(weights, tmp_path, require):
    """Of their values, float32 has not each count."""
    require(module="ai_edge_litert")
    rows, column = sums_of_millions()
    quantized = quantized_dense(np.repeat(column[:, None], 16, axis=1), weights)
    step = MILLIONS * GRID * OF_GRID * weights
    images = rows[:, None, None]
    np.testing.assert_array_equal(*long_sums_of(quantized, tmp_path / "a.tflite", images, step))


def test_matrix_products_of_millions_are_counted(tmp_path, require):
    require(module="ai_edge_litert")
    rows, column = sums_of_millions()
    image = keras.Input((2, LONG, 1), name="image")
    both = layers.Reshape((2, LONG))(image)
    product = keras.ops.matmul(both[:, :1], keras.ops.swapaxes(both[:, 1:], -1, -2))
    quantized = keras_hybrid.quantize(keras.Model(image, product))
    images = np.stack([rows, np.broadcast_to(column, rows.shape)], axis=1)[..., None]
    keras_hybrid.calibrate(quantized, images[:2].astype("float32"), stream=None)
    step = MILLIONS * GRID * GRID
    np.testing.assert_array_equal(*long_sums_of(quantized, tmp_path / "a.tflite", images, step))


@pytest.mark.parametrize("name", sorted(GRAPH_DIFFERS))
def test_others_trace_fake_quantisation_alone(name):
    import tensorflow as tf

    quantized, images = in_halves(CASES[name])
    traced = tf.function(lambda x: quantized(x, training=False), autograph=False)
    differ = np.rint(traced(images) / STEP) != np.rint(quantized(images, training=False) / STEP)
    assert 0.02 < np.mean(differ) < 0.6, "halves are half of all, and half of these go elsewhere"


@pytest.mark.parametrize("name", CASES)
def test_what_others_trace_has_nothing_that_leads_nowhere(name):
    import tensorflow as tf

    quantized, images = in_halves(CASES[name], count=2)
    traced = tf.function(lambda x: quantized(x, training=False), autograph=False)
    graph = traced.get_concrete_function(tf.constant(images)).graph
    wanted, open_ = set(), [x.op for x in graph.outputs]
    while open_:
        operation = open_.pop()
        if operation.name not in wanted:
            wanted.add(operation.name)
            open_ += [x.op for x in operation.inputs]
    leads_nowhere = [x.type for x in graph.get_operations() if x.name not in wanted]
    assert set(leads_nowhere) <= {"Const", "NoOp", "Shape"}, "a conversion would be slowed down"


@pytest.mark.parametrize("name", ["convolution", "sum", "average", "hard swish"])
def test_gradients_go_straight_through(name):
    import tensorflow as tf

    quantized, images = in_halves(CASES[name], count=2)
    weights = np.random.default_rng(0).normal(size=quantized.output_shape[1:])
    found = []
    for training in (False, True):
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(quantized(x, training=training) * weights)
        found.append(tape.gradient(total, x).numpy())
    # Halves are rounded otherwise in training: what is clipped there is another.
    assert np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1] > 0.98


def test_channels_constants_are_those_of_the_file(tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 6), name="image")
    x = layers.Rescaling(random.uniform(0.2, 1.0, 6).tolist(), name="product")(image)
    x = layers.Rescaling(1.0, random.uniform(-3, 2, 6).tolist(), name="total")(x)
    images = random.normal(size=(64, 8, 8, 6)).astype("float32")
    model = keras.Model(image, x)
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    step = fake_quantizers(quantized)[-1].step()
    differ = np.rint(found / step) != np.rint(np.asarray(quantized(images)) / step)
    assert np.mean(differ) < 1e-3


def test_whole_pixels_are_subtracted_exactly():
    from keras_hybrid.quantization.twins.arithmetic import QuantizedRescaling

    pixels = np.arange(256, dtype="float32").reshape(1, 256, 1, 1).repeat(3, -1)
    layer = QuantizedRescaling(1.0, [-124.0, -116.0, -104.0])
    np.testing.assert_array_equal(layer(pixels), pixels - np.float32([124, 116, 104]))


def test_who_computes_for_whom_is_known():
    """Keras' names of its steps' functions, which are not public."""
    import tensorflow as tf

    seen = []

    @keras.saving.register_keras_serializable("keras_hybrid_tests")
    class Watch(layers.Layer):
        def call(self, x):
            seen.append(keras_private.computes_for_keras())
            return x + 0.0

    model = keras.Sequential([keras.Input((3,)), Watch(), layers.Dense(1)])
    x, y = np.zeros((4, 3), "float32"), np.zeros((4, 1), "float32")

    def of(function):
        seen.clear()
        function()
        return set(seen)

    assert of(lambda: model(x)) == {True}
    for steps in (1, 2):
        model.compile("sgd", "mse", steps_per_execution=steps)
        assert of(lambda: model.predict(x, batch_size=2, verbose=0)) == {True}
        assert of(lambda: model.evaluate(x, y, batch_size=2, verbose=0)) == {True}
        assert of(lambda: model.fit(x, y, batch_size=2, verbose=0)) == {True}
    assert of(lambda: tf.function(model)(x)) == {False}


def test_a_converter_that_traces_the_model_itself_finds_integers_alone(tmp_path):
    import tensorflow as tf

    quantized, _ = in_halves(lambda x: hard_swish(two_maps(layers.Add())(x)), count=2)
    quantized.export(str(tmp_path / "exported"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "exported"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path = tmp_path / "a.tflite"
    path.write_bytes(converter.convert())
    assert not inspect_tflite(path).integer_offenders


def all_but_half(quantized, roundings, step):
    """Gives the first of a model's roundings a grid of all but half a step, the others a step."""
    for number, name in enumerate(roundings):
        (rounding,) = [x for x in fake_quantizers(quantized) if x.name == name]
        wide = step if number else step / 2 * (1 - 2e-6)
        low = -255 if rounding.limits else -128
        rounding.set_range(low * wide, (low + 255) * wide)


def test_differences_of_layer_norms_all_but_half_way_are_those_of_the_file(tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 16), name="image")
    model = keras.Model(image, LeanLayerNormalization(name="x")(image))
    integers = random.integers(-8, 9, (200, 8, 8, 16))
    images = (integers * 0.01).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    all_but_half(quantized, ["image_rounded", "mean", "centered"], 0.02)
    images = integers * np.asarray(fake_quantizers(quantized)[0].step())
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    assert len(np.unique(found)) > 20
    np.testing.assert_allclose(quantized(images), found, atol=1e-3 * found.max())


def test_offsets_of_layer_norms_all_but_half_way_are_those_of_the_file(tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 16), name="image")
    norm = LeanLayerNormalization(name="x")
    model = keras.Model(image, norm(image))
    norm.gamma.assign(random.uniform(0.5, 1.5, 16))
    norm.beta.assign(random.integers(-40, 41, 16) * 0.02)
    images = random.normal(size=(50, 8, 8, 16)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    all_but_half(quantized, ["scaled", "offsets", "x_rounded"], 0.04)
    step = np.asarray(fake_quantizers(quantized)[0].step())
    images = np.rint(images / step) * step
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    assert len(np.unique(found)) > 100
    np.testing.assert_array_equal(np.rint(quantized(images) / 0.04), np.rint(found / 0.04))


def test_silu_half_way_is_that_of_the_file(tmp_path, require):
    require(module="ai_edge_litert")
    image = keras.Input((1, 256, 1), name="image")
    model = keras.Model(image, layers.Activation("silu", name="x")(image))
    codes = np.arange(-128, 128).reshape(1, 1, 256, 1)
    step = np.float32(0.014)  # of which 13 products with a gate are half way, of even and odd
    images = (codes * step).astype("float32")
    quantized = keras_hybrid.calibrate(
        keras_hybrid.quantize(model), np.concatenate([images] * 2), stream=None
    )
    for rounding in fake_quantizers(quantized):
        if rounding.fixed_range is None:
            rounding.set_range(-128 * step, 127 * step)
    images = codes * np.asarray(fake_quantizers(quantized)[0].step())
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    np.testing.assert_array_equal(np.rint(quantized(images) / step), np.rint(found / step))


@pytest.mark.large
def test_attention_to_a_thousand_pixels_is_that_of_the_file(tmp_path, require):
    require(module="ai_edge_litert")
    random = np.random.default_rng(0)
    image = keras.Input((32, 32, 16), name="image")
    query, key, value = (layers.Conv2D(16, 1, name=name)(image) for name in ("q", "k", "v"))
    model = keras.Model(image, DotProductAttention(1, name="x")([query, key, value]))
    images = random.normal(size=(8, 32, 32, 16)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    step = fake_quantizers(quantized)[0].step()
    images = np.rint(images / step) * np.asarray(step)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", "int8")
    (found,) = run_tflite(path, images).values()
    np.testing.assert_allclose(quantized(images), found, atol=1e-3 * found.max())
