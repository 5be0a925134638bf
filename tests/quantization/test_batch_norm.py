"""`quantize(batch_norm="frozen")`: batch norm trains beside the kernel, and ships in it."""

import keras
import numpy as np
import pytest
from harness import decibels, randomise
from keras import layers as L

import keras_hybrid
from keras_hybrid import layers as hybrid
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.twins import kernels
from keras_hybrid.quantization.twins.float_guard import FloatConv2D
from keras_hybrid.quantization.twins.frozen_norm import FrozenBatchNormalization

STATISTICS = ("moving_mean", "moving_variance")


def network(image):
    """Every way that a batch norm can stand to a convolution; "dead" has a channel of gamma 0."""
    x = L.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(image)
    x = L.ReLU(6.0, name="stem_relu")(L.BatchNormalization(name="stem_norm")(x))
    x = L.Conv2D(8, 1, name="plain")(x)  # none behind it
    x = L.BatchNormalization(name="alone")(L.ReLU(name="plain_relu")(x))  # none before it
    x = L.ReLU(name="alone_relu")(x)
    x = L.DepthwiseConv2D(3, use_bias=False, strides=2, depth_multiplier=2, name="depthwise")(x)
    x = L.Activation("silu", name="silu")(L.BatchNormalization(name="depthwise_norm")(x))
    x = hybrid.GroupedConv2D(8, 1, groups=2, name="grouped")(x)
    x = hybrid.ChannelShuffle(2, name="shuffle")(L.BatchNormalization(name="grouped_norm")(x))
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.BatchNormalization(name="dead", scale=True, center=False)(L.Dense(8, name="dense")(x))
    return L.Dense(5, name="classes")(x)


@pytest.fixture
def model(small_network):
    model = small_network(network)
    gamma = model.get_layer("dead").gamma
    gamma.assign(np.where(np.arange(8) == 3, 0, np.where(np.arange(8) == 4, -0.7, gamma)))
    return model


@pytest.fixture
def calibrated(model, make_images):
    def quantize(batch_norm, profile="int8", target="cpu", **options):
        quantized = keras_hybrid.quantize(
            model, profile, batch_norm=batch_norm, target=target, **options
        )
        return keras_hybrid.calibrate(quantized, make_images(), stream=None)

    return quantize


def norms(model):
    """The batch norms in the model's layers, by those layers' names."""
    found = {layer.name: getattr(layer, "batch_norm", None) for layer in model.layers}
    return {name: norm for name, norm in found.items() if norm is not None}


def without_rounding(model, images):
    inner = [x for x in model.layers if isinstance(x, kernels.QuantizedKernel)]
    for layer in (*fake_quantizers(model), *inner):
        layer.exact = True
    return np.asarray(model(images))


def train(model, images, labels, epochs=1):
    # Eagerly: tracing the step takes longer than the few steps.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, run_eagerly=True)
    return model.fit(images, labels, epochs=epochs, verbose=0, shuffle=False)


@pytest.mark.parametrize(
    "make, twin, channels",
    [
        (lambda **config: L.Conv2D(6, 3, **config), kernels.QuantizedConv2D, 6),
        (
            lambda **config: L.DepthwiseConv2D(3, depth_multiplier=2, **config),
            kernels.QuantizedDepthwiseConv2D,
            8,
        ),
        (lambda **config: L.Dense(6, **config), kernels.QuantizedDense, 6),
    ],
)
@pytest.mark.parametrize("weights", ["max", "mse"])
def test_rounding_with_batch_norm_in_the_kernel_is_batch_norm_of_the_rounded(
    make, twin, channels, weights
):
    """Symmetric grids scale with what they hold, whatever the factors' signs and sizes."""
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 8, 8, 4)).astype("float32")
    norm = L.BatchNormalization(epsilon=1e-2)
    norm.build((None, 8, 8, channels))
    signs = np.where(np.arange(channels) % 2, -1, 1)
    norm.set_weights([signs * 3.0 ** np.arange(channels), *random.uniform(0.5, 1.5, (3, channels))])
    plain, frozen = (
        twin.from_config({**make(use_bias=False, activation=activation).get_config(), **more})
        for activation, more in (
            (None, {}),
            ("relu", {"batch_norm": FrozenBatchNormalization(1e-2)}),
        )
    )
    plain.build(images.shape)
    frozen.build(images.shape)
    frozen.kernel.assign(plain.kernel)
    frozen.batch_norm.set_weights(norm.get_weights())
    for layer in (plain, frozen):
        layer.reset_range()
        if weights == "mse":
            layer.clip_range((0.6, 0.8, 1.0))
    expected = np.maximum(norm(plain(images), training=False), 0)
    np.testing.assert_allclose(frozen(images), expected, rtol=1e-4, atol=1e-4 * expected.max())
    frozen.exact = True
    assert np.abs(frozen(images) - expected).max() > 1e-3 * expected.max(), "it rounds"


def test_batch_norms_behind_kernels_stay_as_they_are_in_float(model, calibrated):
    found = norms(calibrated("frozen"))
    assert set(found) == {"stem", "depthwise_0", "depthwise_1", "grouped", "dense"}
    assert norms(calibrated("folded")) == {}
    whole = norms(calibrated("frozen", target="npu"))
    assert set(whole) == {"stem", "depthwise", "grouped", "dense"}
    for name, norm in (("stem", "stem_norm"), ("dense", "dead")):
        layer = model.get_layer(norm)
        kept = np.arange(8) != (3 if norm == "dead" else -1)
        assert found[name].name == norm
        np.testing.assert_array_equal(found[name].gamma[kept], np.asarray(layer.gamma)[kept])
        np.testing.assert_array_equal(found[name].moving_variance, layer.moving_variance)
    assert found["dense"].gamma[3] > 0.1 and not found["dense"].gamma[4] > 0
    np.testing.assert_allclose(found["stem"].beta, model.get_layer("stem_norm").beta, atol=1e-6)
    gamma = np.asarray(model.get_layer("depthwise_norm").gamma)
    np.testing.assert_array_equal(found["depthwise_1"].gamma, gamma[1::2])
    shuffled = np.asarray(model.get_layer("grouped_norm").gamma).reshape(2, 4).T.reshape(-1)
    np.testing.assert_array_equal(found["grouped"].gamma, shuffled)


@pytest.mark.large
@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
def test_frozen_computes_and_ships_what_folded_does(
    model, calibrated, make_images, tmp_path, profile
):
    images = make_images(64, seed=1)
    folded, frozen = (calibrated(name, profile) for name in ("folded", "frozen"))
    files = []
    for number, quantized in enumerate((folded, frozen)):
        path = tmp_path / f"{number}.tflite"
        files.append(keras_hybrid.export_tflite(quantized, path, precision=profile))
        (shipped,) = run_tflite(path, images).values()
        assert decibels(np.asarray(quantized(images)), shipped) > 40
    inspected = [inspect_tflite(path) for path in files]
    assert inspected[0].ops == inspected[1].ops
    assert inspected[0].float_tensors == inspected[1].float_tensors
    assert inspected[0].size_bytes == inspected[1].size_bytes
    assert decibels(np.asarray(folded(images)), np.asarray(frozen(images))) > 40
    constants = [
        [
            buffer.data.tobytes()
            for buffer in TFLiteFile.read(path).model.buffers
            if buffer.data is not None
        ]
        for path in files
    ]
    # All kernels, of which a factor's last bit may have put a value into the next step.
    same = sum(one == other for one, other in zip(*constants, strict=True))
    assert same >= 0.7 * len(constants[0])
    folded, frozen = (without_rounding(quantized, images) for quantized in (folded, frozen))
    np.testing.assert_allclose(frozen, folded, atol=1e-5)


@pytest.mark.large
def test_training_moves_scale_and_offset_and_no_statistics(calibrated, make_images, tmp_path):
    quantized, images, labels = calibrated("frozen"), make_images() * 3, np.arange(32) % 5
    before = {
        (name, weight.name): np.array(weight)
        for name, norm in norms(quantized).items()
        for weight in norm.weights
    }
    kernel = np.array(quantized.get_layer("stem").kernel)
    history = train(quantized, images, labels, epochs=4)
    assert history.history["loss"][-1] < history.history["loss"][0]
    for (name, kind), value in before.items():
        moved = np.array(getattr(norms(quantized)[name], kind)) != value
        assert not moved.any() if kind in STATISTICS else moved.any(), (name, kind)
    assert (np.array(quantized.get_layer("stem").kernel) != kernel).any()
    assert quantized.count_params() > calibrated("folded").count_params()

    dead = norms(quantized)["dense"].gamma[3]
    assert dead != before["dense", "gamma"][3], "a channel of gamma 0 can be trained"
    path = keras_hybrid.export_tflite(quantized, tmp_path / "t.tflite", precision="int8")
    (shipped,) = run_tflite(path, images).values()
    assert decibels(np.asarray(quantized(images)), shipped) > 40
    assert inspect_tflite(path).integer_offenders == ()


@pytest.mark.large
def test_a_saved_model_goes_on_where_it_was(calibrated, make_images, tmp_path, fresh_process):
    quantized, images, labels = calibrated("frozen"), make_images() * 3, np.arange(32) % 5
    train(quantized, images, labels)
    quantized.save(tmp_path / "q.keras")
    (there,) = fresh_process.run(tmp_path / "q.keras", [images])
    np.testing.assert_allclose(there, quantized(images), atol=1e-6)
    again = keras.models.load_model(tmp_path / "q.keras")
    first, second = (
        keras_hybrid.export_tflite(x, tmp_path / f"{n}.tflite", precision="int8").read_bytes()
        for n, x in enumerate((quantized, again))
    )
    assert first == second
    losses = [
        x.fit(images, labels, epochs=2, verbose=0, shuffle=False).history["loss"]
        for x in (quantized, again)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_layers_left_in_float_have_their_batch_norm_folded(model, calibrated, make_images):
    quantized = calibrated("frozen", keep_float=("stem",))
    assert "stem" not in norms(quantized) and "dense" in norms(quantized)
    assert type(quantized.get_layer("stem")) is FloatConv2D
    assert decibels(np.asarray(model(make_images())), np.asarray(quantized(make_images()))) > 25


def test_an_unknown_value_is_refused(model):
    with pytest.raises(ValueError, match=r"`batch_norm` must be one of .*batch_norm='fold'"):
        keras_hybrid.quantize(model, batch_norm="fold")
    with pytest.raises(ValueError, match="`use_bias` must be False"):
        kernels.QuantizedDense(3, batch_norm=FrozenBatchNormalization())


@pytest.mark.large
@pytest.mark.parametrize("name", ["MobileFormer26M", "MobileViTXXS", "IFormerT"])
def test_each_familys_smallest_variant_trains(name):
    image = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    model = keras_hybrid.build_model(name, weights=None, input_shape=(64, 64, 3), classes=10)
    quantized = keras_hybrid.quantize(randomise(model), batch_norm="frozen")
    keras_hybrid.calibrate(quantized, image, stream=None)
    found = norms(quantized)
    assert len(found) >= 32
    before = {name: [np.array(w) for w in norm.weights] for name, norm in found.items()}
    train(quantized, image, np.arange(2))
    moved = {
        name: [
            (np.array(w) != b).any() for w, b in zip(found[name].weights, before[name], strict=True)
        ]
        for name in found
    }
    assert not any(any(changes[2:]) for changes in moved.values())
    assert sum(changes[0] and changes[1] for changes in moved.values()) > 0.5 * len(found)
