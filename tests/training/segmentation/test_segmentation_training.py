"""Training of segmentation: what is fed, what is trained, how it resumes and what it reports."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import small_segmentation
from small_segmentation import make_masked_source, make_tiny_dense_network

import keras_hybrid.training.run.run as run_module
from keras_hybrid.training.data.segmentation.segmentation_pipeline import (
    segmentation_evaluation_dataset,
    segmentation_training_dataset,
)
from keras_hybrid.training.optimization.schedules import learning_rate_schedule, make_optimizer
from keras_hybrid.training.recipe.recipe import load_recipe, override
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe
from keras_hybrid.training.run.run import load_run, train, training_network, training_view
from keras_hybrid.training.segmentation_evaluation import evaluate_segmentation
from keras_hybrid.training.tasks.of_recipe import task_of
from keras_hybrid.workflows.reports.segmentation_report import write_segmentation_report


@pytest.fixture
def recipe():
    return small_segmentation.RECIPE


@pytest.fixture(scope="module")
def source():
    return make_masked_source()


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(run_module, "new_network", make_tiny_dense_network)


def batches(*arguments, **options):
    return list(segmentation_training_dataset(*arguments, **options).as_numpy_iterator())


def test_batches_are_crops_with_their_masks(source, recipe):
    recipe = dataclasses.replace(recipe, distortion_probability=0.0)
    found = batches(source, recipe)
    assert len(found) == recipe.epochs * 4
    for images, masks in found:
        assert images.shape == (4, 64, 64, 3) and masks.shape == (4, 64, 64)
        assert masks.dtype == np.int32 and set(np.unique(masks)) <= {0, 1, 2, 255}
        assert images.min() >= 0 and images.max() <= 1  # as MobileViT takes them
        for label, low, high in ((1, 0.7, 1.0), (2, 0.0, 0.3), (0, 0.4, 0.6)):
            assert low < np.median(images[masks == label]) < high


def test_a_run_sees_the_same_whenever_it_starts(source, recipe):
    whole = batches(source, recipe)
    again = batches(source, recipe, first_epoch=1, first_step=2)
    assert len(again) == 2
    for (images, masks), (same_images, same_masks) in zip(whole[-2:], again, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(masks, same_masks)
    assert (whole[0][1] != whole[4][1]).any()


def test_images_are_evaluated_at_their_own_size(source, recipe):
    shapes = [
        (images.shape, masks.shape)
        for images, masks in segmentation_evaluation_dataset(source, recipe).as_numpy_iterator()
    ]
    assert shapes == [((1, 64, 64, 3), (1, 40, 48)), ((1, 64, 64, 3), (1, 52, 36))] * 2
    inside = dataclasses.replace(recipe, evaluation_fit="inside", long_side=1.25)
    shapes = [
        images.shape[1:3]
        for images, _ in segmentation_evaluation_dataset(source, inside).as_numpy_iterator()
    ]
    assert shapes == [(64, 77), (80, 55)] * 2
    alike = make_masked_source(sizes=((40, 48),))
    ((images, masks),) = segmentation_evaluation_dataset(alike, recipe).as_numpy_iterator()
    assert images.shape == (4, 64, 64, 3) and masks.shape == (4, 40, 48)


@pytest.mark.large
def test_a_run_is_trained_saved_and_read_again(source, recipe, tmp_path, tiny):
    recipe = dataclasses.replace(recipe, epochs=6)
    stream = io.StringIO()
    finished = train(recipe, source, tmp_path / "run", stream=stream)
    assert "mIoU on the evaluation images" in stream.getvalue()
    last = finished.history[-1]
    assert last["val_mean_iou"] > 0.5  # three classes, told by their grey
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["task"] == "segmentation"
    again = load_run(tmp_path / "run")
    assert again.recipe == recipe and isinstance(again.recipe, SegmentationRecipe)
    found = evaluate_segmentation(again.model, source, recipe)
    assert found.mean_iou == pytest.approx(last["val_mean_iou"], abs=2e-3)

    metric = keras.metrics.MeanIoU(3, ignore_class=255, sparse_y_pred=False)
    for images, masks in segmentation_evaluation_dataset(source, recipe):
        logits = keras.ops.image.resize(again.model(images), masks.shape[1:3], "bilinear")
        metric.update_state(masks, logits)
    assert found.mean_iou == pytest.approx(float(metric.result()), abs=1e-3)

    report = write_segmentation_report(again, source)
    page = report.path.read_text()
    assert page.count("data:image/png;base64,") == 8  # four of the worst, and four others
    assert page.count("<polyline") == 4  # mIoU and loss, of training and validation images
    text = (tmp_path / "run" / "report.md").read_text()
    assert "| bright |" in text and f"{found.mean_iou:.1%}" in text
    worst = found.worst()
    assert worst[0].mean_iou <= worst[-1].mean_iou and len(worst) == 4


@pytest.mark.large
def test_an_interrupted_run_ends_as_if_nothing_had_happened(source, recipe, tmp_path, tiny):
    recipe = dataclasses.replace(recipe, ema_momentum=0.5, weight_decay=0.05, head_rate=3.0)
    whole = train(recipe, source, tmp_path / "whole", stream=io.StringIO())

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, source, tmp_path / "part", stream=io.StringIO(), callbacks=(Interrupt(),))
    resumed = train(recipe, source, tmp_path / "part", stream=io.StringIO())
    for one, other in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert resumed.history[-1]["val_mean_iou"] == pytest.approx(
        whole.history[-1]["val_mean_iou"], abs=1e-3
    )


def test_the_head_learns_faster(recipe):
    recipe = dataclasses.replace(recipe, head_rate=10.0)
    model = make_tiny_dense_network(recipe, 3)
    multipliers = make_optimizer(recipe, model, 10).multipliers
    assert {path.split("/")[0] for path, rate in multipliers.items() if rate == 10} == {
        "head_conv",
        "head_norm",
        "logits",
    }


def test_the_poly_schedule_is_the_published_one(recipe):
    recipe = dataclasses.replace(
        recipe, decay="poly", learning_rate=2e-4, final_learning_rate=1e-6, epochs=10
    )
    schedule = learning_rate_schedule(recipe, 10)
    for step in (0, 25, 99):
        expected = (2e-4 - 1e-6) * (1 - step / 100) ** 0.9 + 1e-6
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(again(25)) == float(schedule(25))


def test_statistics_of_the_backbone_stay_while_its_scale_trains(recipe):
    recipe = dataclasses.replace(recipe, frozen_statistics=True)
    network = make_tiny_dense_network(recipe, 3)
    view, _ = training_view(network, recipe)
    view.compile("sgd", **task_of(recipe).losses(recipe, view))
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in network.weights}
    random = np.random.default_rng(0)
    view.fit(random.normal(3, 2, (4, 64, 64, 3)), random.integers(0, 3, (4, 64, 64)), verbose=0)
    moved = {
        weight.path
        for weight in network.weights
        if (keras.ops.convert_to_numpy(weight) != before[weight.path]).any()
    }
    assert {"stem_norm/gamma", "stem_norm/beta", "head_norm/moving_mean"} <= moved
    assert not {"stem_norm/moving_mean", "stem_norm/moving_variance"} & moved


@pytest.mark.large
def test_the_second_head_is_trained_and_not_saved(recipe):
    recipe = dataclasses.replace(
        recipe,
        head="deeplabv3",
        head_options={"auxiliary": True, "aspp_channels": 8},
        dropout_rate=0.0,
    )
    model = run_module.new_network(recipe, 3)
    assert not isinstance(model.output, dict)
    network = training_network(recipe, model)
    assert set(network.output) == {"logits", "auxiliary"}
    kernel = network.get_layer("head_aspp1").kernel
    np.testing.assert_array_equal(kernel, model.get_layer("head_aspp1").kernel)
    view, _ = training_view(network, recipe)
    run_module.compile_for_training(view, recipe, 4)
    view.run_eagerly = True  # a single step
    source = make_masked_source(sizes=((64, 64),), train=4, test=4)
    data = segmentation_training_dataset(source, recipe)
    assert {name: masks.shape for name, masks in data.element_spec[1].items()} == {
        "logits": (4, 64, 64),
        "auxiliary": (4, 64, 64),
    }
    logs = view.fit(data.take(1), verbose=0).history
    assert task_of(recipe).metric(recipe) in logs
    assert logs["loss"][0] == pytest.approx(
        logs["logits_loss"][0] + 0.4 * logs["auxiliary_loss"][0], rel=1e-4
    )
    run_module.copy_weights(network, model)
    np.testing.assert_array_equal(kernel, model.get_layer("head_aspp1").kernel)


@pytest.mark.large
def test_a_classifier_starts_the_backbone(recipe, tmp_path, monkeypatch):
    import keras_hybrid

    classifier = keras_hybrid.MobileViTXXS(weights=None, classes=4, input_shape=(64, 64, 3))
    classifier.save(tmp_path / "classifier.keras")
    recipe = dataclasses.replace(recipe, initial_weights=str(tmp_path / "classifier.keras"))
    model = run_module.new_network(recipe, 3)
    with pytest.warns(UserWarning):
        task_of(recipe).load_initial_weights(model, recipe)
    name = "stage5_block1_fusion_conv"
    np.testing.assert_array_equal(model.get_layer(name).kernel, classifier.get_layer(name).kernel)
    bgr = dataclasses.replace(recipe, initial_weights="imagenet_apple")
    with pytest.raises(ValueError, match="RGB"):
        task_of(bgr).load_initial_weights(model, bgr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "unet"}, "head='unet'"),
        ({"resize_scale": (2.0, 1.0)}, "resize_scale"),
        ({"one_class_share": 0.0}, "one_class_share"),
        ({"evaluation_fit": "crop"}, "evaluation_fit"),
        ({"head_options": {"classes": 3}}, "head_options"),
        ({"loss_divisor": "pixels"}, "loss_divisor"),
        ({"decay": "step"}, "decay"),
    ],
)
def test_numbers_beyond_their_range_are_refused(recipe, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipe, **change)


def test_options_that_the_head_does_not_have_are_refused(recipe):
    recipe = dataclasses.replace(recipe, head_options={"rates": (1, 2, 3)})
    with pytest.raises(ValueError, match="arguments of `keras_hybrid.semantic_fpn`"):
        run_module.new_network(recipe, 3)


def test_model_and_data_have_the_same_classes(source, recipe):
    with pytest.raises(ValueError, match="a model of 5 classes, data of 3"):
        evaluate_segmentation(make_tiny_dense_network(recipe, 5), source, recipe)


@pytest.mark.parametrize(
    ("name", "variant", "numbers"),
    [
        (
            "mobilevit",
            "XXS",
            {
                "batch_size": 128,
                "epochs": 50,
                "learning_rate": 9e-4,
                "head_rate": 10.0,
                "final_learning_rate": 1e-6,
                "warmup_steps": 500,
                "weight_decay": 0.01,
                "ema_momentum": 1 - 5e-4,
                "resize_scale": (0.5, 2.0),
                "pad_crops": False,
                "loss_divisor": "labelled",
                "distortion_probability": 0.0,
            },
        ),
        (
            "mobilevit",
            "S_stride8",
            {
                "model": "MobileViTS",
                "one_class_share": 0.75,
                "rotation": 10.0,
                "blur_probability": 0.5,
                "stretch": "bilinear_aligned",
                "auxiliary_weight": 0.4,
                "long_side_scaled": False,
            },
        ),
        (
            "iformer",
            "L2",
            {
                "batch_size": 32,
                "learning_rate": 2e-4,
                "weight_decay": 1e-4,
                "decay": "poly",
                "head_rate": 1.0,
                "frozen_statistics": True,
                "loss_divisor": "all",
                "resize_scale": (0.5, 2.0),
                "long_side": 4.0,
                "one_class_share": 0.75,
                "distortion_probability": 0.5,
                "ema_momentum": None,
            },
        ),
    ],
)
def test_recipes_carry_the_published_numbers(root, name, variant, numbers):
    recipe = load_recipe(root / "recipes/segment" / f"{name}.py", variant, SegmentationRecipe)
    assert {field: getattr(recipe, field) for field in numbers} == numbers
    assert recipe.resolution == 512
    changed = override(recipe, ["head_options=neck_channels=64", "long_side=none"])
    assert changed.head_options == {"neck_channels": 64} and changed.long_side is None
    with pytest.raises(ValueError, match=f"one of .*Received: variant='{variant}x'"):
        load_recipe(root / "recipes/segment" / f"{name}.py", f"{variant}x", SegmentationRecipe)


@pytest.mark.large
def test_the_recipe_of_the_scenes_learns(root, tmp_path, require, monkeypatch):
    """A tenth of it: no minutes, a real network, all through files."""
    require(module="tensorflow_datasets")
    require(module="sklearn")
    from keras_hybrid.training.data.digit_scenes import digit_scenes_dataset_builder as module

    monkeypatch.setattr(module, "COUNTS", {"train": 96, "test": 16})
    recipe = load_recipe(root / "recipes/segment/digits.py", "MobileViTXXS", SegmentationRecipe)
    changes = ["resolution=64", "epochs=4", "warmup_epochs=0.5", "resize_scale=1,1.2"]
    recipe = override(recipe, [*changes, "head_options=neck_channels=16,head_channels=16"])
    stream = io.StringIO()
    run = train(recipe, "digit_scenes", tmp_path / "run", data_dir=str(tmp_path), stream=stream)
    losses = [row["loss"] for row in run.history]
    assert losses[-1] < 0.8 * losses[0]
    assert run.class_names[0] == "background" and run.model.output_shape == (None, 16, 16, 11)
