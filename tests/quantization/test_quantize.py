"""`quantize`: errors, training, saving, the user's own quantisers and layers."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.ranges.freezing import FreezeRanges, freeze_ranges
from keras_hybrid.quantization.rules import Rule
from keras_hybrid.quantization.twins.kernels import QuantizedKernel


def classifier(image):
    x = L.Conv2D(8, 3, strides=2, name="stem", use_bias=False)(image)
    x = L.ReLU(name="stem_relu")(L.BatchNormalization(name="stem_norm")(x))
    x = L.Conv2D(8, 1, activation="gelu", name="mix")(x)
    return L.Dense(5, name="classes")(L.GlobalAveragePooling2D()(x))


@pytest.fixture
def model(small_network):
    return small_network(classifier)


@pytest.fixture
def calibrated(model, make_images):
    return keras_hybrid.calibrate(keras_hybrid.quantize(model), make_images(), stream=None)


def test_tfmot_is_where_the_adapter_expects_it():
    before = os.environ.get(tfmot.LEGACY_SWITCH)
    quantizers = tfmot.quantizers()
    assert os.environ.get(tfmot.LEGACY_SWITCH) == before
    layer = keras.layers.Layer()
    weights = tfmot.build(tfmot.moving_average(), layer, "x", (None, 4))
    assert sorted(weights) == ["max_var", "min_var"]
    assert [weight.name for weight in layer.weights] == ["x_min", "x_max"]
    per_channel = tfmot.build(tfmot.per_channel_weights(), layer, "kernel", (3, 3, 2, 4))
    assert per_channel["max_var"].shape == (4,)
    assert issubclass(quantizers.LastValueQuantizer, quantizers.Quantizer)


@pytest.mark.large
def test_tensorflows_keras_stays_what_it_was():
    """TFMOT is the first to use `tf.keras` in a new process, which decides which Keras that is."""
    program = (
        "from keras_hybrid.quantization.ranges.tfmot import quantizers\n"
        "quantizers()\n"
        "import tensorflow\n"
        "print(tensorflow.keras.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == keras.__version__, done.stderr


def test_kernels_take_127_steps_on_either_side(calibrated):
    kernels = [layer for layer in calibrated.layers if isinstance(layer, QuantizedKernel)]
    assert len(kernels) == 3
    for layer in kernels:
        kernel = np.asarray(layer.quantized_kernel()).reshape(-1, layer.kernel.shape[-1])
        steps = kernel / (np.abs(kernel).max(0) / 127)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
        original = np.asarray(layer.kernel).reshape(kernel.shape)
        assert np.all(np.abs(kernel - original) <= np.abs(original).max(0) / 254 * 1.001)


def test_calibration_methods_differ_as_they_should(model, make_images):
    quantized = keras_hybrid.quantize(model)
    images = make_images(64)
    images[0, 0, 0, 0] = 50.0
    first = fake_quantizers(quantized)[0]
    keras_hybrid.calibrate(quantized, images, stream=None)
    assert first.range[1] == pytest.approx(50.0)
    keras_hybrid.calibrate(quantized, images, method="moving_average", decay=0.5, stream=None)
    assert 4 < first.range[1] < 50
    keras_hybrid.calibrate(quantized, images, method="percentile", percentile=99.0, stream=None)
    assert 2 < first.range[1] < 4
    assert first.seen_range[1] == pytest.approx(50.0)


def test_mse_ranges_err_less(model, make_images):
    quantized = keras_hybrid.quantize(model)
    stem = quantized.get_layer("stem")
    kernel = np.asarray(stem.kernel).copy()
    kernel[0, 0, 0] *= 4  # an outlier in every channel
    stem.kernel.assign(kernel)
    stem.reset_range()

    def error():
        return float(np.mean((np.asarray(stem.quantized_kernel()) - kernel) ** 2))

    before = error()
    keras_hybrid.calibrate(quantized, make_images(4), weights="mse", stream=None)
    assert error() <= before


@pytest.mark.large
def test_training_saving_and_same_bytes(calibrated, make_images, tmp_path):
    images, labels = make_images(), np.arange(32) % 5
    ranges = [layer.range for layer in fake_quantizers(calibrated)]
    calibrated.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kernel = np.asarray(calibrated.get_layer("stem").kernel).copy()
    calibrated.fit(images * 3, labels, verbose=0)
    assert np.abs(np.asarray(calibrated.get_layer("stem").kernel) - kernel).max() > 0
    moved = [layer.range for layer in fake_quantizers(calibrated)]
    assert moved[0] != ranges[0]
    calibrated.fit(images * 3, labels, verbose=0, callbacks=[FreezeRanges(0)])
    assert [layer.range for layer in fake_quantizers(calibrated)] == moved
    path = tmp_path / "q.keras"
    calibrated.save(path)
    again = keras.models.load_model(path)
    assert all(layer.frozen for layer in fake_quantizers(again))
    first, second = (
        keras_hybrid.export_tflite(x, tmp_path / f"{n}.tflite", precision="int8").read_bytes()
        for n, x in enumerate((calibrated, again))
    )
    assert first == second
    again.fit(images, labels, verbose=0)


def test_reloads_in_a_fresh_process(calibrated, make_images, tmp_path, fresh_process):
    path = tmp_path / "fresh.keras"
    calibrated.save(path)
    images = make_images(4)
    (outputs,) = fresh_process.run(path, [images])
    np.testing.assert_allclose(outputs, calibrated(images), atol=1e-6)


def test_unfreezing_lets_ranges_move(calibrated):
    freeze_ranges(calibrated)
    freeze_ranges(calibrated, False)
    assert not any(layer.frozen for layer in fake_quantizers(calibrated))


def test_a_users_quantizer(model, make_images):
    quantizers = tfmot.quantizers()

    @keras.saving.register_keras_serializable("tests")
    class Fixed(quantizers.Quantizer):
        def build(self, tensor_shape, name, layer):
            return {"limit": layer.add_weight(f"{name}_limit", initializer=lambda shape: 2.0)}

        def __call__(self, inputs, training, weights, **kwargs):
            import tensorflow as tf

            return tf.quantization.fake_quant_with_min_max_vars(
                inputs, -weights["limit"], weights["limit"]
            )

        def get_config(self):
            return {}

    quantized = keras_hybrid.quantize(model, activation_quantizer=Fixed())
    outputs = np.asarray(quantized(make_images() * 10))
    assert np.abs(outputs).max() <= 2.02
    keras_hybrid.calibrate(quantized, make_images(), stream=None)
    assert fake_quantizers(quantized)[0].seen_range is not None


def test_an_unknown_layer_is_named_and_can_be_registered(small_network):
    @keras.saving.register_keras_serializable("tests")
    class Doubled(L.Layer):
        def call(self, inputs):
            return inputs * 2.0

    model = small_network(lambda image: Doubled(name="twice")(L.Conv2D(4, 3)(image)))
    with pytest.raises(ValueError, match=r"layer class Doubled.*rules=.*'twice'"):
        keras_hybrid.quantize(model)
    keras_hybrid.quantize(model, rules={Doubled: Rule()})
    keras_hybrid.quantize(model, keep_float="twice")


def test_bad_input(model, calibrated, make_images, monkeypatch, tmp_path):
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="functional model"):
        keras_hybrid.quantize(Subclassed())
    with pytest.raises(ValueError, match="quantised already"):
        keras_hybrid.quantize(calibrated)
    with pytest.raises(ValueError, match="profile"):
        keras_hybrid.quantize(model, "int4")
    with pytest.raises(ValueError, match="close to it: .*stem"):
        keras_hybrid.quantize(model, keep_float=("sten",))
    with pytest.raises(ValueError, match="part of its neighbours"):
        keras_hybrid.quantize(model, keep_float=("stem_norm",))
    with pytest.raises(ValueError, match="representative images. Received: none"):
        keras_hybrid.calibrate(calibrated, [], stream=None)
    with pytest.raises(ValueError, match="representative_data"):
        keras_hybrid.export_tflite(model, tmp_path / "x.tflite", precision="int8")
    images = make_images(4)
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        keras_hybrid.calibrate(calibrated, images, stream=None)
    with pytest.raises(ValueError, match="not quantised"):
        keras_hybrid.calibrate(model, images, stream=None)
    with pytest.raises(ValueError, match="never calibrated"):
        fresh = keras_hybrid.quantize(model)
        keras_hybrid.export_tflite(fresh, tmp_path / "x.tflite", precision="int8")
    with pytest.raises(ValueError, match="precision"):
        keras_hybrid.export_tflite(calibrated, tmp_path / "x.tflite", precision="float16")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="backend 'jax'"):
        keras_hybrid.quantize(model)


def test_images_outside_the_range_warn_with_numbers(calibrated, make_images):
    from keras_hybrid.quantization.report import warn_outside_ranges

    assert warn_outside_ranges(calibrated, make_images()) == 0
    with pytest.warns(UserWarning, match=r"from -\d.* calibration saw"):
        assert warn_outside_ranges(calibrated, make_images() * 4) > 0.05


def test_the_report_finds_the_layer_that_hurts(calibrated, make_images):
    from keras_hybrid.quantization.report import layer_errors

    hurt = calibrated.get_layer("mix_gelu_rounded")
    hurt.set_range(0.0, 0.05)
    errors = layer_errors(calibrated, make_images(8))
    assert min(errors, key=lambda error: error.own).name == "mix_gelu"
    assert errors[0].signal_to_noise <= errors[-1].signal_to_noise
    assert np.isfinite(errors[0].low)


@pytest.mark.large
@pytest.mark.parametrize("profile", ["int8", "int8_cpu"])
def test_types_at_both_ends(model, profile, make_images, tmp_path):
    from keras_hybrid.export.inspect import inspect_tflite

    quantized = keras_hybrid.quantize(model, profile)
    keras_hybrid.calibrate(quantized, make_images(), stream=None)
    for kind in ("int8", "uint8"):
        path = keras_hybrid.export_tflite(
            quantized, tmp_path / "io.tflite", precision=profile, input=kind, output=kind
        )
        inspection = inspect_tflite(path)
        assert inspection.activations[0].dtype == kind.upper()
        outputs = [tensor for tensor in inspection.activations if tensor.is_output]
        assert [tensor.dtype for tensor in outputs] == [kind.upper()]
        assert (inspection.integer_offenders == ()) == (profile == "int8")


def test_16_bit_activations(model, make_images, tmp_path):
    from keras_hybrid.export.inspect import inspect_tflite

    path = keras_hybrid.export_tflite(
        model, tmp_path / "x.tflite", precision="int16x8", representative_data=make_images(8)
    )
    kinds = {tensor.dtype for tensor in inspect_tflite(path).activations}
    assert "INT16" in kinds and "INT8" not in kinds


def test_a_deep_network_is_quantised_saved_and_loaded(tmp_path):
    """Keras follows graphs by recursion, and Python lets it 1,000 layers deep by itself."""
    image = x = keras.Input((4, 4, 3), name="image")
    for _ in range(520):
        x = keras.layers.Activation("tanh")(x)
    model = keras.Model(image, x)
    images = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    assert len(quantized.layers) > 1000
    quantized.save(tmp_path / "deep.keras")
    loaded = keras.models.load_model(tmp_path / "deep.keras")
    np.testing.assert_array_equal(loaded(images), quantized(images))
