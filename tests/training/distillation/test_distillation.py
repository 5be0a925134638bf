"""Distillation: losses in closed form, teachers of all kinds, runs that survive interruption."""

import dataclasses
import functools
import io

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_hybrid
from keras_hybrid.training.data.pipeline import training_dataset
from keras_hybrid.training.distillation.distilled_training import (
    HardTeacherLoss,
    SoftTeacherLoss,
    head_logits,
)
from keras_hybrid.training.distillation.teacher import logits_of, open_teacher, restore_images
from keras_hybrid.training.distillation.teacher_cache import cached_logits
from keras_hybrid.training.run.run import train


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def two_heads(recipe, num_classes, any_size=False):
    """A network with an iFormer's two heads and drop out, which trains in milliseconds."""
    image = keras.Input((recipe.resolution, recipe.resolution, 3), name="image")
    x = keras.layers.Conv2D(4, 16, strides=16, name="stem_conv")(image)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = keras.layers.Dropout(0.1)(keras.layers.GlobalAveragePooling2D()(x))
    heads = [
        keras.layers.Dense(num_classes, name=name)(x)
        for name in ("head_fc", "head_distillation_fc")
    ]
    x = keras.layers.Average()(heads)
    return keras.Model(image, keras.layers.Activation("softmax", name="predictions")(x), name="two")


@pytest.fixture
def teacher_file(tmp_path):
    """A classifier of the greys by their mean, from 0 to 255, at 32 px, with softmax in a layer."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    x = keras.layers.Dense(4, activation="softmax")(x)
    model = keras.Model(image, x)
    greys = 60.0 * np.arange(4)
    kernel = np.ones((3, 1)) * greys / 3 / 300
    model.layers[-1].set_weights([kernel, -(greys**2) / 2 / 300])
    model.save(tmp_path / "teacher.keras")
    return tmp_path / "teacher.keras"


@pytest.fixture
def distilled(recipe, teacher_file):
    return dataclasses.replace(recipe, teacher=str(teacher_file), teacher_preprocessing="none")


def test_the_soft_loss_is_the_divergence_at_a_temperature():
    rng = np.random.default_rng(0)
    teacher, network = 5 * rng.normal(size=(2, 6, 9)).astype("float32")
    for temperature in (1.0, 3.0):
        p, q = log_softmax(teacher / temperature), log_softmax(network / temperature)
        expected = temperature**2 * np.mean(np.sum(np.exp(p) * (p - q), -1))
        loss = SoftTeacherLoss(temperature)
        assert float(loss(teacher, network)) == pytest.approx(expected, rel=1e-5)
        # Logarithms of probabilities are as good as logits.
        assert float(loss(log_softmax(teacher), network)) == pytest.approx(expected, rel=1e-5)
    assert float(SoftTeacherLoss(2.0)(teacher, teacher + 1)) == pytest.approx(0, abs=1e-5)


def test_the_hard_loss_is_cross_entropy_with_the_teachers_class():
    teacher, network = np.random.default_rng(0).normal(size=(2, 6, 9)).astype("float32")
    expected = -log_softmax(network)[np.arange(6), teacher.argmax(-1)].mean()
    assert float(HardTeacherLoss()(teacher, network)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("build", [two_heads, None], ids=["two heads", "one head"])
def test_labels_and_teacher_share_the_loss(distilled, tiny_network, kind, build):
    from keras_hybrid.training.run import run

    recipe = dataclasses.replace(
        distilled, teacher_loss=kind, teacher_share=0.3, teacher_temperature=2.0
    )
    recipe = dataclasses.replace(recipe, label_smoothing=0.1)
    network = (build or run.new_network)(recipe, 4)
    teacher = open_teacher(recipe, 4)
    view, _ = run.training_view(network, recipe, teacher)
    run.compile_for_training(view, recipe, 10)
    rng = np.random.default_rng(0)
    raw = rng.uniform(0, 255, (5, 64, 64, 3)).astype("float32")
    x = keras_hybrid.preprocess_input(raw, recipe.model)
    y = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0]]
    logits = rng.normal(size=(5, 2, 4) if build else (5, 4)).astype("float32")
    first, last = (logits[:, 0], logits[:, 1]) if build else (logits, logits)

    smooth = 0.9 * y + 0.1 / 4
    label_loss = -(smooth * log_softmax(first)).sum(-1).mean()
    targets = keras.ops.convert_to_numpy(teacher.logits(raw))
    loss = HardTeacherLoss() if kind == "hard" else SoftTeacherLoss(2.0)
    expected = 0.7 * label_loss + 0.3 * float(loss(targets, last))
    computed = float(view.compute_loss(x, y, logits, training=True))
    assert computed == pytest.approx(expected, rel=1e-4)
    travelling = {"image": np.rint(raw).astype("uint8")}  # the device finishes them for both
    finished = float(view.compute_loss(travelling, y, logits, training=True))
    assert finished == pytest.approx(computed, rel=0.02)
    cached = float(view.compute_loss(x, {"label": y, "teacher": targets}, logits, training=True))
    assert cached == pytest.approx(computed, rel=1e-4)
    # In evaluation there is no teacher, and the heads' mean is the answer.
    mean = (first + last) / 2
    evaluated = float(view.compute_loss(x, y, logits, training=False))
    assert evaluated == pytest.approx(-(smooth * log_softmax(mean)).sum(-1).mean(), rel=1e-5)
    view.reset_metrics()
    metrics = view.compute_metrics(x, y, logits)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean(mean.argmax(-1) == y.argmax(-1)))


@pytest.mark.parametrize("model", ["MobileFormer26M", "MobileViTXXS", "MobileViTS/imagenet_apple"])
def test_inputs_are_turned_back_into_images(model):
    raw = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    restored = restore_images(keras_hybrid.preprocess_input(raw, model), model)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(restored), raw, atol=1e-3)


def test_a_teacher_of_keras_applications_gets_its_own_images(recipe, monkeypatch):
    """Its preprocessing (-1 to 1 here) and its resolution, of the images that the network sees."""

    @functools.wraps(keras.applications.MobileNetV2)
    def without_download(weights=None, classifier_activation="softmax", input_shape=(96, 96, 3)):
        return build(
            input_shape=input_shape,
            alpha=0.35,
            weights=None,
            classes=4,
            classifier_activation=classifier_activation,
        )

    build = keras.applications.MobileNetV2
    monkeypatch.setattr(keras.applications, "MobileNetV2", without_download)
    recipe = dataclasses.replace(recipe, teacher="MobileNetV2", teacher_resolution=128)
    teacher = open_teacher(recipe, 4)
    assert teacher.resolution == 128 and teacher.model.output_shape == (None, 4)
    assert not teacher.model.trainable_variables
    raw = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    resized = keras.ops.image.resize(raw, (128, 128), antialias=True) / 127.5 - 1
    expected = keras.ops.convert_to_numpy(teacher.model(resized))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(teacher.logits(raw)), expected, atol=1e-4)
    assert np.ptp(expected) > 0


def test_teachers_that_cannot_teach_are_refused(recipe, teacher_file, tmp_path):
    def refused(message, num_classes=4, **changes):
        with pytest.raises(ValueError, match=message):
            open_teacher(dataclasses.replace(recipe, **changes), num_classes)

    file = str(teacher_file)
    refused("Did you mean `IFormerL2`", teacher="IFormrL2")
    refused("Did you mean `ConvNeXtBase`", teacher="ConvNextBase")
    refused("name it with `teacher_preprocessing`", teacher=file)
    refused("must be 'none', one of", teacher=file, teacher_preprocessing="convnet")
    refused("must have the data's 7 classes", 7, teacher=file, teacher_preprocessing="none")
    refused("images of 32 px only", teacher=file, teacher_resolution=64)
    refused("The folder of a finished run|folder of a finished", teacher=str(tmp_path))
    refused("has the published weights", teacher="IFormerT/none")
    for change, message in (
        ({"teacher_loss": "medium"}, "`teacher_loss` must be one of"),
        ({"teacher_share": 1.5}, "`teacher_share` must be in"),
        ({"teacher": None, "teacher_cache": "x"}, "`teacher_cache` must be None without"),
        ({"teacher_cache": "x", "mixup": 0.2}, "logits of whole images, not of mixtures"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(recipe, **{"teacher": file, **change})


def test_a_teacher_must_end_in_logits_or_a_softmax():
    image = keras.Input((3,))
    dense = keras.layers.Dense(4, name="fc")
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    expected = log_softmax(keras.ops.convert_to_numpy(keras.Model(image, dense(image))(x)))
    for ending in (
        keras.layers.Activation("linear"),
        keras.layers.Activation("softmax"),
        keras.layers.Softmax(),
    ):
        logits = logits_of(keras.Model(image, ending(dense(image))))(x)
        found = log_softmax(keras.ops.convert_to_numpy(logits))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    softmax = keras.layers.Dense(4, activation="softmax")
    model = keras.Model(image, softmax(image))
    softmax.set_weights(dense.get_weights())
    np.testing.assert_allclose(keras.ops.convert_to_numpy(logits_of(model)(x)), expected, atol=1e-4)
    with pytest.raises(ValueError, match="with the activation sigmoid"):
        logits_of(keras.Model(image, keras.layers.Dense(4, activation="sigmoid")(image)))


def check_that_the_second_head_learnt(model):
    """With all of the loss from the teacher, the head for labels has learnt nothing."""
    moved = [
        np.abs(model.get_layer(name).bias.numpy()).max()
        for name in ("head_fc", "head_distillation_fc")
    ]
    assert moved[0] == 0 and moved[1] > 1e-3


@pytest.fixture
def two_headed(monkeypatch):
    from keras_hybrid.training.run import run

    monkeypatch.setattr(run, "new_network", two_heads)


@pytest.mark.large
def test_distillation_resumes_as_if_nothing_had_happened(distilled, source, tmp_path, two_headed):
    recipe = dataclasses.replace(
        distilled,
        learning_rate=0.02,
        teacher_share=1.0,
        ema_momentum=0.9,
        accumulation_steps=2,
        epochs=2,
    )

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    whole = train(recipe, source, tmp_path / "whole", stream=io.StringIO())
    with pytest.raises(KeyboardInterrupt):
        train(recipe, source, tmp_path / "cut", stream=io.StringIO(), callbacks=(Stop(),))
    resumed = train(recipe, source, tmp_path / "cut", stream=io.StringIO())
    for first, second in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    with np.load(tmp_path / "cut" / "state.npz") as arrays:
        kernels = [array for array in arrays.values() if array.shape == (3, 4)]
    assert kernels == []  # the teacher's is not kept
    check_that_the_second_head_learnt(whole.model)


def test_a_run_learns_from_cached_logits(distilled, source, tmp_path, two_headed):
    recipe = dataclasses.replace(
        distilled,
        learning_rate=0.02,
        teacher_share=1.0,
        teacher_loss="soft",
        teacher_cache=str(tmp_path / "cache"),
        epochs=1,
    )
    check_that_the_second_head_learnt(
        train(recipe, source, tmp_path / "run", stream=io.StringIO()).model
    )
    assert len(list((tmp_path / "cache").glob("*.float16"))) == 1


def test_the_cache_holds_each_images_logits_and_survives_interruption(
    distilled, source, tmp_path, monkeypatch
):
    from keras_hybrid.training.distillation import teacher_cache

    recipe = dataclasses.replace(distilled, teacher_cache=str(tmp_path / "cache"), epochs=1)
    monkeypatch.setattr(teacher_cache, "BATCH_SIZE", 6)
    teacher = open_teacher(recipe, 4)
    calls = []

    class Interrupted:
        output_shape = teacher.model.output_shape

        def predict_on_batch(self, images):
            if len(calls) == 2:
                calls.append("interrupted")
                raise KeyboardInterrupt
            calls.append(len(images))
            return teacher.model.predict_on_batch(images)

    counted = dataclasses.replace(teacher, model=Interrupted())
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        cached_logits(counted, source, recipe, stream=stream)
    (partial,) = (tmp_path / "cache").glob("*.partial")
    with open(partial, "ab") as file:
        file.write(b"half")  # of a record, as a killed process leaves it
    logits_at = cached_logits(counted, source, recipe, stream=stream)
    places = tf.data.Dataset.range(32)
    logits = list(places.map(logits_at).as_numpy_iterator())
    assert calls == [6, 6, "interrupted", 6, 6, 6, 2] and len(logits) == 32
    cached_logits(counted, source, recipe, stream=stream)
    assert len(calls) == 7 and not list((tmp_path / "cache").glob("*.partial"))

    # The teacher knows the greys, whose labels go 0 1 2 3 0 1 2 3.
    np.testing.assert_array_equal(np.argmax(logits, -1), np.arange(32) % 4)
    seen = 0
    for _, targets in training_dataset(
        source, recipe, teacher_logits=cached_logits(counted, source, recipe, stream=stream)
    ):
        np.testing.assert_array_equal(
            targets["teacher"].numpy().argmax(-1), targets["label"].numpy().argmax(-1)
        )
        seen += len(targets["label"])
    assert seen == 32

    (file,) = (tmp_path / "cache").glob("*.float16")
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match="must have 256 bytes: delete it"):
        cached_logits(counted, source, recipe, stream=stream)


def test_two_heads_are_those_of_an_iformer():
    options = {"weights": None, "input_shape": (64, 64, 3), "classes": 4}
    both = keras_hybrid.IFormerT(distillation=True, **options)
    assert head_logits(both).shape == (None, 2, 4)
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    logits = keras.ops.convert_to_numpy(keras.Model(both.input, head_logits(both))(x))
    heads = keras_hybrid.training_heads(both)(x)
    for index, head in enumerate(("head", "head_distillation")):
        np.testing.assert_allclose(logits[:, index], heads[head], atol=1e-6)


def test_a_teacher_that_cannot_be_downloaded_is_an_error_in_a_line(recipe, monkeypatch):
    def refuse(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "ConvNeXtTiny", refuse)
    recipe = dataclasses.replace(recipe, teacher="ConvNeXtTiny")
    with pytest.raises(ValueError, match="URL fetch failure.*teacher='ConvNeXtTiny'"):
        open_teacher(recipe, 1000)
