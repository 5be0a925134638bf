"""Training of detectors: what is fed, what is trained, how it resumes, which epoch is the best."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import small_detection
from small_detection import make_boxed_source, make_tiny_detector, write_scenes

from keras_hybrid.tasks.detection.average_precision import average_precision
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.tasks.detection.post_processing import Detections
from keras_hybrid.training.data.detection.detection_pipeline import (
    detection_evaluation_dataset,
    detection_training_dataset,
    evaluation_pictures,
)
from keras_hybrid.training.data.detection.detection_source import with_objects
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.detection_evaluation import DetectionEvaluation, evaluate_detection
from keras_hybrid.training.optimization.schedules import learning_rate_schedule
from keras_hybrid.training.recipe.common import as_plain
from keras_hybrid.training.recipe.detection import DetectionRecipe
from keras_hybrid.training.recipe.recipe import load_recipe, override
from keras_hybrid.training.run.run import load_run, train, training_network, training_view
from keras_hybrid.training.run.run_folder import check_folder
from keras_hybrid.training.tasks.detection import Detection
from keras_hybrid.training.tasks.of_recipe import task_of

RECIPE = small_detection.RECIPE


@pytest.fixture(scope="module")
def source():
    return make_boxed_source()


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(Detection, "_network", lambda _, *given: make_tiny_detector(*given))


def batches(*arguments, **options):
    return list(detection_training_dataset(*arguments, **options).as_numpy_iterator())


@pytest.mark.parametrize("head", ["ssdlite", "retinanet"])
def test_batches_are_pictures_with_their_boxes(source, head):
    recipe = dataclasses.replace(RECIPE, head=head, distortion_probability=0.0, crops=True)
    found = batches(source, recipe)
    assert len(found) == recipe.epochs * 4
    seen = 0
    for images, objects in found:
        assert images.shape == (4, 64, 64, 3) and images.min() >= 0 and images.max() <= 1
        assert objects["boxes"].shape == (4, 4, 4) and objects["labels"].shape == (4, 4)
        assert objects["boxes"].min() >= 0 and objects["boxes"].max() <= 64
        for image, boxes, labels in zip(images, objects["boxes"], objects["labels"], strict=True):
            for box, label in zip(boxes[labels >= 0], labels[labels >= 0], strict=True):
                x1, y1, x2, y2 = np.round(box).astype(int)
                if min(x2 - x1, y2 - y1) < 4:
                    continue
                middle = np.median(image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1])
                assert abs(middle - (220, 30)[label] / 255) < 0.1
                seen += 1
            assert (boxes[labels < 0] == 0).all()
    assert seen > 30


def test_pictures_keep_their_aspect_for_retinanet(source):
    recipe = dataclasses.replace(RECIPE, head="retinanet")
    images, objects = next(iter(detection_evaluation_dataset(source, recipe).as_numpy_iterator()))
    # 40 x 48 and 64 x 36, filled up below and to the right.
    assert (images[0, 54:] == 0).all() and (images[0, :53] > 0).all()
    assert (images[1, :, 37:] == 0).all() and (images[1, :, :36] > 0).all()
    width, height = (objects["boxes"][1, 0, 2:] - objects["boxes"][1, 0, :2]).tolist()
    assert (width, height) == (20, 16)
    stretched = detection_evaluation_dataset(source, RECIPE)
    _, objects = next(iter(stretched.as_numpy_iterator()))
    width, _ = (objects["boxes"][1, 0, 2:] - objects["boxes"][1, 0, :2]).tolist()
    assert width == pytest.approx(20 * 64 / 36, rel=1e-5)


def test_images_fit_800_and_1333():
    large = make_boxed_source(sizes=((480, 640), (640, 200)), train=2, test=2, empty=0)
    recipe = dataclasses.replace(RECIPE, head="retinanet", fit="800x1333", resolution=1344)
    images, objects = next(iter(detection_evaluation_dataset(large, recipe).as_numpy_iterator()))
    assert images.shape == (2, 1344, 1344, 3)
    for image, (height, width) in zip(images, ((800, 1067), (1333, 417)), strict=True):
        assert (image[:height, :width] > 0).all()
        assert (image[height:] == 0).all() and (image[:, width:] == 0).all()
    assert objects["boxes"][0, 0, 3] - objects["boxes"][0, 0, 1] == pytest.approx(16 * 800 / 480)


def test_a_run_sees_the_same_whenever_it_starts(source):
    recipe = dataclasses.replace(RECIPE, crops=True)
    whole = batches(source, recipe)
    again = batches(source, recipe, first_epoch=1, first_step=2)
    assert len(again) == 2
    for one, other in zip(whole[-2:], again, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)
    assert (whole[0][1]["boxes"] != whole[4][1]["boxes"]).any()


def test_images_without_objects_are_left_out_where_a_recipe_says_so(source):
    kept = task_of(RECIPE).prepared_source(source, RECIPE)
    assert kept.sizes["train"] == 16
    recipe = dataclasses.replace(RECIPE, empty_images=False)
    kept = task_of(recipe).prepared_source(source, recipe)
    assert kept.sizes == {"train": 15, "test": 4} and "1 images of train" in kept.notes[0]
    assert all(len(objects) == 2 for _, objects in evaluation_pictures(kept, "train"))
    with pytest.raises(ValueError, match="to train on"):
        with_objects(make_boxed_source(train=2, test=2, empty=2))
    nothing = dataclasses.replace(source, sizes={"train": 15, "test": 1}, open_reader=None)
    object.__setattr__(nothing, "open_reader", lambda split: source.reader("train"))
    object.__setattr__(nothing, "count_objects", lambda split: np.zeros(1, int))
    with pytest.raises(ValueError, match="to evaluate on"):
        task_of(recipe).prepared_source(nothing, recipe)


@pytest.mark.large
def test_a_run_is_trained_saved_and_read_again(source, tmp_path, tiny):
    recipe = dataclasses.replace(RECIPE, epochs=20, flip_probability=0.0, ema_momentum=0.8)
    stream = io.StringIO()
    finished = train(recipe, source, tmp_path / "run", stream=stream)
    assert "AP on the evaluation images" in stream.getvalue()
    first, last = finished.history[0], finished.history[-1]
    assert last["loss"] < 0.5 * first["loss"] and last["val_ap50"] > 0.2
    assert last["loss"] == pytest.approx(last["box_loss"] + last["class_loss"], rel=1e-3)
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["task"] == "detection"
    again = load_run(tmp_path / "run")
    assert again.recipe == recipe
    found = evaluate_detection(again.model, source, recipe)
    assert found.precision.ap == pytest.approx(last["val_ap"], abs=1e-3)
    assert found.class_agnostic().ap50 >= found.precision.ap50 - 1e-6
    best = keras.models.load_model(tmp_path / "run" / "best.keras")
    best = evaluate_detection(best, source, recipe).precision.ap
    assert best == pytest.approx(max(row["val_ap"] for row in finished.history), abs=1e-3)


@pytest.mark.large
def test_an_interrupted_run_ends_as_if_nothing_had_happened(source, tmp_path, tiny):
    recipe = dataclasses.replace(RECIPE, ema_momentum=0.5, weight_decay=0.05, crops=True)
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
    for name in ("loss", "val_loss", "val_ap"):
        assert resumed.history[-1][name] == pytest.approx(whole.history[-1][name], abs=1e-3)


def test_offsets_weigh_what_the_recipe_says_and_statistics_stay(source):
    recipe = dataclasses.replace(RECIPE, box_weight=0.5, frozen_statistics=True)
    network = make_tiny_detector(recipe, 2)
    view, _ = training_view(network, recipe)
    view.compile("sgd", run_eagerly=True)
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in network.weights}
    logs = view.fit(detection_training_dataset(source, recipe).take(1), verbose=0).history
    assert logs["loss"][0] == pytest.approx(
        0.5 * logs["box_loss"][0] + logs["class_loss"][0], rel=1e-4
    )
    moved = {
        weight.path
        for weight in network.weights
        if (keras.ops.convert_to_numpy(weight) != before[weight.path]).any()
    }
    assert {"stem_norm4/gamma", "head_level0_depthwise_norm/moving_mean"} <= moved
    assert not any("stem_norm" in path and "moving" in path for path in moved)


def test_what_is_trained_apart_has_the_same_classes_and_weights(tiny):
    recipe = dataclasses.replace(RECIPE, precision="mixed_bfloat16")
    model = make_tiny_detector(recipe, 2)
    network = training_network(recipe, model)
    assert network is not model and network.dtype_policy.name == "mixed_bfloat16"
    for one, other in zip(network.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_learning_rate_falls_to_a_tenth():
    recipe = dataclasses.replace(
        RECIPE, epochs=12, decay="multistep", decay_epochs=(8, 11), warmup_steps=5
    )
    schedule = learning_rate_schedule(recipe, 10)
    rates = {0: 0.0, 4: 0.8, 5: 1, 79: 1, 80: 0.1, 109: 0.1, 110: 0.01, 119: 0.01}
    for step, share in rates.items():
        assert float(schedule(step)) == pytest.approx(share * 3e-3, rel=1e-5), step
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(again(110)) == float(schedule(110))


def test_runs_of_before_a_field_was_there_go_on(tmp_path):
    described = as_plain(RECIPE)
    for name in ("decay_epochs", "crops"):
        del described[name]
    (tmp_path / "run.json").write_text(json.dumps({"recipe": described}))
    (tmp_path / "state.npz").touch()
    check_folder(tmp_path, RECIPE, {}, ("state.npz",))
    changed = dataclasses.replace(RECIPE, crops=True)
    with pytest.raises(ValueError, match="crops=False there, True now"):
        check_folder(tmp_path, changed, {}, ("state.npz",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "yolo"}, "head='yolo'"),
        ({"fit": "800x1333"}, "fit='800x1333' is for a head that keeps"),
        ({"head_options": {"classes": 3}}, "head_options"),
        ({"shorter_side": 32}, "head='ssdlite', shorter_side=32"),
        ({"head": "retinanet", "shorter_side": 64}, "below resolution=64"),
        (
            {"head": "retinanet", "fit": "800x1333", "resolution": 1344, "shorter_side": 640},
            "must be 800 or more",
        ),
        ({"max_objects": 0}, "max_objects=0"),
        ({"decay": "multistep"}, "decay_epochs"),
        ({"decay_epochs": (1,)}, "go with decay='multistep'"),
        ({"decay": "multistep", "decay_epochs": (1, 1)}, "rising epochs"),
        ({"decay": "multistep", "decay_epochs": (1, 2)}, "before the last of 2"),
    ],
)
def test_numbers_beyond_their_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_options_that_the_head_does_not_have_are_refused():
    recipe = dataclasses.replace(RECIPE, head_options={"rates": (1, 2, 3)})
    with pytest.raises(ValueError, match="arguments of `keras_hybrid.ssdlite`"):
        task_of(recipe).new_network(recipe, 3)


def test_blind_to_classes_an_object_counts_once():
    """The surer image says two classes of its object, which is no false alarm."""
    boxes = np.array([[10, 10, 30, 30]], "float32")
    objects = [Objects(boxes, [1]), Objects(boxes, [1])]
    detections = [
        Detections(boxes.repeat(2, 0), np.float32([0.9, 0.8]), np.array([1, 0])),
        Detections(boxes, np.float32([0.5]), np.array([0])),
    ]
    precision = average_precision(detections, objects, 2)
    found = DetectionEvaluation(detections, objects, precision)
    assert precision.ap50 < 0.6 and found.class_agnostic().ap50 == pytest.approx(1)


def test_what_is_no_detector_of_these_classes_is_refused(source):
    with pytest.raises(ValueError, match="a model of 5 classes, data of 2"):
        evaluate_detection(make_tiny_detector(RECIPE, 5), source, RECIPE)
    plain = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="detector of this package"):
        evaluate_detection(plain, source, RECIPE)


@pytest.mark.parametrize(
    ("name", "variant", "numbers"),
    [
        (
            "mobilevit",
            "XXS",
            {
                "model": "MobileViTXXS",
                "model_options": {"transformer_dropout_rate": 0.05},
                "resolution": 320,
                "batch_size": 128,
                "epochs": 200,
                "learning_rate": 9e-4,
                "warmup_learning_rate": 9e-5,
                "final_learning_rate": 1e-6,
                "warmup_steps": 500,
                "schedule_unit": "epoch",
                "weight_decay": 0.01,
                "decayed": ("all",),
                "ema_momentum": 1 - 5e-4,
                "ema_warmup": False,
                "crops": True,
                "flip_probability": 0.5,
            },
        ),
        (
            "mobile_former",
            "294M",
            {
                "head": "retinanet",
                "head_options": {},
                "batch_size": 16,
                "epochs": 12,
                "learning_rate": 1e-4,
                "decay_epochs": (8, 11),
                "warmup_steps": 500,
                "weight_decay": 1e-4,
                "frozen_statistics": True,
                "fit": "800x1333",
                "resolution": 1344,
                "shorter_side": 800,
                "ema_momentum": None,
                "crops": False,
                "distortion_probability": 0.0,
            },
        ),
    ],
)
def test_recipes_carry_the_published_numbers(root, name, variant, numbers):
    recipe = load_recipe(root / "recipes/detect" / f"{name}.py", variant, DetectionRecipe)
    assert {field: getattr(recipe, field) for field in numbers} == numbers
    assert not recipe.empty_images
    with pytest.raises(ValueError, match=f"one of .*Received: variant='{variant}x'"):
        load_recipe(root / "recipes/detect" / f"{name}.py", f"{variant}x", DetectionRecipe)


@pytest.mark.large
def test_a_dry_run_of_the_published_recipes_reads_a_batch(root, source):
    from keras_hybrid.training.run.dry_run import dry_run

    recipe = load_recipe(root / "recipes/detect/mobilevit.py", "XXS", DetectionRecipe)
    # A run on fifteen images is too short for its warm-up.
    text = dry_run(override(recipe, ["batch_size=3", "warmup_steps=5"]), source)
    assert "5 steps an epoch of 3 images" in text and "images (3, 320, 320, 3)" in text
    assert "boxes (3, 100, 4), labels (3, 100)" in text
    recipe = load_recipe(root / "recipes/detect/mobile_former.py", "151M", DetectionRecipe)
    text = dry_run(override(recipe, ["batch_size=1", "warmup_steps=5"]), source)
    assert "images (1, 800, 1344, 3)" in text and "MiB of activations" in text


@pytest.mark.large
def test_the_recipe_of_the_scenes_learns(root, tmp_path, require):
    """A few scenes by heart: seconds, a real network and the real loss, all through files."""
    require(module="sklearn")
    source = open_detection_source(f"folder:{write_scenes(tmp_path / 'data')}")
    assert source.sizes == {"train": 8, "validation": 8}
    recipe = load_recipe(root / "recipes/detect/digits.py", None, DetectionRecipe)
    changes = ["resolution=64", "batch_size=8", "epochs=60", "warmup_epochs=8", "crops=false"]
    changes += ["distortion_probability=0", "ema_momentum=none", "validation_every=60"]
    recipe = override(recipe, changes)
    run = train(recipe, source, tmp_path / "run", stream=io.StringIO())
    losses = [row["loss"] for row in run.history]
    assert losses[-1] < 0.5 * losses[0]
    assert run.history[-1]["val_ap"] > 0.02
