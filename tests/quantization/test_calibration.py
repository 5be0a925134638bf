"""Which ranges calibration finds, to the number; when training stops moving them; the report."""

import sys

import keras
import numpy as np
import pytest
from harness import decibels
from keras import layers as L

import keras_hybrid
from keras_hybrid.export import saved_model
from keras_hybrid.quantization.ranges import before_activation, calibration
from keras_hybrid.quantization.ranges.before_activation import ValuesBeforeActivation
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.ranges.freezing import FreezeRanges
from keras_hybrid.quantization.ranges.lean_run import run_leanly
from keras_hybrid.quantization.report import layer_errors
from keras_hybrid.surgery.editable_model import EditableModel


def network(image):
    x = L.Conv2D(8, 5, strides=2, name="stem")(image)
    x = L.Multiply(name="gated")([x, L.Activation("sigmoid", name="gate")(x)])
    return L.Dense(5, name="classes")(L.GlobalAveragePooling2D(name="pool")(x))


@pytest.fixture
def quantized(small_network):
    return keras_hybrid.quantize(small_network(network))


@pytest.fixture
def images(make_images):
    """24 images whose lower tail is not their upper one, and whose batches of 8 differ."""
    return np.exp(make_images(24) * np.linspace(0.5, 1.0, 24)[:, None, None, None]) - 2


def by_name(model):
    return {layer.name.removesuffix("_rounded"): layer for layer in fake_quantizers(model)}


def expected_range(method, batches):
    extremes = [(batch.min(), batch.max()) for batch in batches]
    if method == "min_max":
        return min(low for low, _ in extremes), max(high for _, high in extremes)
    if method == "percentile":
        return np.mean([np.percentile(batch, [10, 90]) for batch in batches], axis=0)
    average = np.array(extremes[0])
    for extreme in extremes[1:]:
        average = 0.8 * average + 0.2 * np.array(extreme)
    return average


@pytest.mark.parametrize("method", ["min_max", "percentile", "moving_average"])
def test_each_method_to_the_number(quantized, images, method):
    batches = [images[start : start + 8] for start in (0, 8, 16)]
    labelled = [(batch, None) for batch in batches]
    options = {"method": method, "percentile": 90.0, "decay": 0.8, "stream": None}
    found = []
    for data in (images, labelled, iter(batches)):
        keras_hybrid.calibrate(quantized, data, batch_size=8, **options)
        found.append(fake_quantizers(quantized)[0].range)
    np.testing.assert_allclose(found, [expected_range(method, batches)] * 3, rtol=1e-5)
    np.testing.assert_allclose(
        fake_quantizers(quantized)[0].seen_range, (images.min(), images.max()), rtol=1e-6
    )


@pytest.mark.parametrize(("method", "sizes"), [("min_max", [10, 10, 4]), ("percentile", [24])])
def test_large_values_are_computed_for_part_of_a_batch(
    quantized, images, monkeypatch, method, sizes
):
    keras_hybrid.calibrate(quantized, images, method=method, stream=None)
    whole = {name: layer.range for name, layer in by_name(quantized).items()}
    seen = []

    def run(model, batch, watch):
        seen.append(len(batch))
        run_leanly(model, batch, watch)

    monkeypatch.setattr(calibration, "images_at_a_time", lambda model: 10)
    monkeypatch.setattr(calibration, "run_leanly", run)
    keras_hybrid.calibrate(quantized, images, method=method, stream=None)
    assert seen == sizes
    for name, layer in by_name(quantized).items():
        assert layer.range == pytest.approx(whole[name], rel=1e-5)


def test_what_silu_makes_nothing_of_is_clipped(make_images):
    image = keras.Input((16, 16, 3), name="image")
    x = L.Conv2D(3, 1, name="before")(image)
    x = L.Add()([L.Activation("silu", name="curve")(x), L.Conv2D(3, 1, name="other")(image)])
    model = keras.Model(image, x)
    for name in ("before", "other"):
        model.get_layer(name).set_weights([np.eye(3)[None, None], np.zeros(3)])
    images = 2 * make_images(24)
    images[0, :2, :2] = -40.0
    images[1, 0, 0, 0] = 11.0
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    layers = by_name(quantized)
    assert layers["other"].range == pytest.approx((-40.0, 11.0), rel=1e-2)
    low, high = layers["before"].range
    assert -16 < low < -6 and high == pytest.approx(11.0, rel=1e-2)
    assert layers["before"].seen_range == pytest.approx((-40.0, 11.0), rel=1e-2)
    keras_hybrid.calibrate(quantized, images, method="moving_average", stream=None)
    assert layers["before"].range[0] < -30


@pytest.mark.parametrize("also", ["an output", "on a grid with others"])
def test_what_others_read_is_not_clipped(also, make_images):
    image = keras.Input((16, 16, 3), name="image")
    logits = L.Conv2D(3, 1, name="logits")(image)
    curve = L.Activation("silu", name="curve")(logits)
    if also == "an output":
        model = keras.Model(image, [logits, curve])
    else:
        joined = L.Concatenate()([logits, L.Conv2D(3, 1, name="other")(image)])
        model = keras.Model(image, [L.Conv2D(3, 1, name="reader")(joined), curve])
    for name in {"logits", "other"} & {layer.name for layer in model.layers}:
        model.get_layer(name).set_weights([np.eye(3)[None, None], np.zeros(3)])
    images = 2 * make_images(24)
    images[0, :2, :2] = -40.0
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(model), images, stream=None)
    (low,) = {x.range[0] for name, x in by_name(quantized).items() if name in ("logits", "other")}
    assert low == pytest.approx(-40.0, rel=1e-2)


def test_each_value_is_kept_with_the_same_chance():
    values = ValuesBeforeActivation(lambda x: np.maximum(x, 0))
    for _ in range(20):
        values.add(np.full((5, 1000), -1.0, "float32"))
    values.add(np.full((2, 50_000), 3.0, "float32"))
    assert len(values._values) <= before_activation.MAXIMUM_VALUES
    assert np.mean(values._values == 3.0) == pytest.approx(0.5, abs=0.03)
    assert -0.5 < values.lowest(-1.0, 3.0) < 0


def test_values_are_seen_without_rounding(quantized, images, small_network):
    model = small_network(network)
    stem = keras.Model(model.input, model.get_layer("stem").output)
    fake_quantizers(quantized)[0].set_range(0.0, 1e-3)  # as rounded, the images would be nothing
    keras_hybrid.calibrate(quantized, images, stream=None)
    expected = np.asarray(stem(images))
    np.testing.assert_allclose(  # with the rounded kernel
        by_name(quantized)["stem"].range, (expected.min(), expected.max()), rtol=1e-2
    )


def test_fixed_ranges_stay_and_ranges_hold_zero(quantized, images):
    keras_hybrid.calibrate(quantized, images + 10, stream=None)
    layers = by_name(quantized)
    assert layers["gate"].range == (0.0, 255 / 256)
    low, high = fake_quantizers(quantized)[0].range
    assert low == 0.0 and high == pytest.approx(images.max() + 10)


def test_pixels_of_equal_channels_pass_through_layer_norm(small_network):
    """Their variance is 0, of which int8 takes the logarithm."""
    model = small_network(lambda image: L.Conv2D(4, 1)(L.LayerNormalization(name="norm")(image)))
    quantized = keras_hybrid.quantize(model)
    grey = np.ones((2, 16, 16, 3), "float32")
    keras_hybrid.calibrate(quantized, grey, stream=None)
    assert np.isfinite(np.asarray(quantized(grey))).all()
    assert np.isfinite(np.asarray(quantized(grey, training=True))).all()


def test_kernels_are_clipped_where_that_errs_less_and_not_for_ever(quantized, images):
    stem = quantized.get_layer("stem")
    # Between two steps of the outlier's range, and on a step of 98 % of it.
    kernel = np.full(stem.kernel.shape, 24.5 / 127, "float32")
    kernel[0, 0, 0] = 1.0
    stem.kernel.assign(kernel)
    found = []
    for weights in ("mse", "max"):
        keras_hybrid.calibrate(quantized, images[:2], weights=weights, stream=None)
        found.append(np.array(stem.kernel_range["max_var"]))
    clipped, greatest = found
    np.testing.assert_allclose(greatest, 1.0)
    np.testing.assert_allclose(clipped, 0.98, rtol=1e-6)


def test_progress_is_printed(quantized, images, capsys):
    keras_hybrid.calibrate(quantized, images, batch_size=10, stream=sys.stdout)
    assert capsys.readouterr().out.endswith("\rcalibration: 24 images\n")


def test_ranges_move_until_the_step_that_was_asked_for(quantized, images):
    keras_hybrid.calibrate(quantized, images, stream=None)
    quantized.compile(keras.optimizers.SGD(0.01), "mse")
    ranges = [fake_quantizers(quantized)[0].range]

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ranges.append(fake_quantizers(quantized)[0].range)

    labels = np.zeros((24, 5), "float32")
    callbacks = [FreezeRanges(2), Record()]
    quantized.fit(images * 3, labels, batch_size=6, verbose=0, callbacks=callbacks)
    moved = [before != after for before, after in zip(ranges, ranges[1:], strict=False)]
    assert moved == [True, True, False, False]


def test_freezing_is_for_quantised_models(small_network, images):
    model = small_network(network)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="not quantised"):
        model.fit(images, np.zeros((24, 5)), verbose=0, callbacks=[FreezeRanges(1)])
    with pytest.raises(ValueError, match="after_steps=-1"):
        FreezeRanges(-1)


def test_the_report_tells_a_roundings_own_noise_from_all(quantized, images):
    keras_hybrid.calibrate(quantized, images, stream=None)
    fake_quantizers(quantized)[0].set_range(-2.0, 3.0)  # clips: noise for all behind
    errors = layer_errors(quantized, images, batch_size=7)
    assert [error.signal_to_noise for error in errors] == sorted(
        error.signal_to_noise for error in errors
    )
    found = {error.name: error for error in errors}
    first = fake_quantizers(quantized)[0]
    expected = decibels(images, np.clip(images, -2, 3))
    image = found[first.name.removesuffix("_rounded")]
    assert image.own == pytest.approx(expected, abs=0.1)
    assert image.signal_to_noise == pytest.approx(expected, abs=0.1)
    assert (image.low, image.high) == first.range
    assert found["stem"].own > 30 > found["stem"].signal_to_noise


@pytest.mark.large
def test_a_calibrated_model_is_converted_as_it_is(quantized, images, tmp_path, monkeypatch):
    """Building it again takes as long as quantising it, and gives the same file."""
    keras_hybrid.calibrate(quantized, images, stream=None)
    build, built = EditableModel.to_model, []

    def counted(self, *arguments):
        built.append(self)
        return build(self, *arguments)

    monkeypatch.setattr(EditableModel, "to_model", counted)
    path = keras_hybrid.export_tflite(quantized, tmp_path / "a.tflite", precision="int8")
    assert not built
    monkeypatch.setattr(saved_model, "edit_dead_channels", lambda editable: True)
    again = keras_hybrid.export_tflite(quantized, tmp_path / "b.tflite", precision="int8")
    assert len(built) == 1 and path.read_bytes() == again.read_bytes()


@pytest.fixture
def detector():
    """An SSDLite whose second level alone sees objects, and whose other boxes reach far."""
    keras.utils.set_random_seed(0)
    image = keras.Input((64, 64, 3), name="image")
    maps = [image]
    for _ in range(5):  # strides of 2 to 32
        maps.append(L.Conv2D(8, 3, 2, "same", activation="relu")(maps[-1]))
    model = keras_hybrid.ssdlite(keras.Model(image, maps[1:]), 3)
    for level in range(6):
        reach, background = (2.0, -20.0) if level == 1 else (30.0, 3.9)  # scores of 0.02
        boxes, classes = (model.get_layer(f"head_level{level}_{x}") for x in ("boxes", "classes"))
        boxes.kernel.assign(0 * boxes.kernel)
        boxes.bias.assign(np.linspace(-reach, reach, boxes.bias.shape[0]))
        bias = np.zeros(classes.bias.shape[0])
        bias[::4] = background  # of 1 + 3 classes
        classes.bias.assign(bias)
    return model


def test_a_detectors_boxes_have_the_range_of_those_that_see_objects(detector):
    images = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype("float32")
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(detector), images, stream=None)
    wanted, found = (x(images, training=False)["boxes"] for x in (detector, quantized))
    wanted, found = np.asarray(wanted), np.asarray(found)
    near = np.abs(wanted) <= 2
    assert wanted.max() == pytest.approx(30)
    assert np.abs(found[near] - wanted[near]).max() < 4 / 255  # 60 / 255, were all of them kept
    assert np.abs(found).max() < 2.1


def test_scores_that_count_are_within_the_range_of_logits(detector):
    images = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype("float32")
    head = detector.get_layer("head_level1_classes")
    bias = np.zeros(head.bias.shape[0])
    bias[1::4], bias[2::4], bias[3::4] = 6.0, 5.0, -100.0
    head.bias.assign(bias)
    quantized = keras_hybrid.calibrate(keras_hybrid.quantize(detector), images, stream=None)
    wanted, found = (
        np.asarray(keras.ops.softmax(x(images, training=False)["classes"]))
        for x in (detector, quantized)
    )
    assert np.abs(found - wanted).max() < 0.03
    lowest = float(np.asarray(quantized(images, training=False)["classes"]).min())
    assert -20 < lowest < 0  # not -100, of which no score comes


def test_a_part_of_a_detector_is_calibrated_like_any_model(detector):
    images = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype("float32")
    for outputs in (detector.output["classes"], {"boxes": detector.output["boxes"]}):
        part = keras_hybrid.quantize(keras.Model(detector.input, outputs))
        keras_hybrid.calibrate(part, images, stream=None)
        wanted = keras.tree.flatten(keras.Model(detector.input, outputs)(images))[0]
        found = keras.tree.flatten(part(images, training=False))[0]
        assert np.abs(np.asarray(found) - wanted).max() < np.ptp(wanted) / 255


def test_what_a_head_in_float_reads_keeps_its_range(detector):
    images = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype("float32")
    heads = tuple(f"head_level{level}_boxes" for level in range(6))
    for name in heads:
        bias = detector.get_layer(name).bias
        bias.assign(1e-3 * bias)
    quantized = keras_hybrid.quantize(detector, "int8", keep_float=heads)
    keras_hybrid.calibrate(quantized, images, stream=None)
    ranges = {name: x.range for name, x in by_name(quantized).items() if x.seen_range is not None}
    logits = {name for name in ranges if "classes" in name}
    assert logits and len(ranges) > 10
    for name in set(ranges) - logits:
        low, high = by_name(quantized)[name].seen_range
        assert ranges[name][1] == pytest.approx(max(high, 0.0), rel=1e-3) or high < 1e-5, name
