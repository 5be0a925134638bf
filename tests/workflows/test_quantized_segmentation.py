"""A segmentation network's run in int8: trained on, and its files side by side by mIoU."""

import dataclasses
import io

import numpy as np
import pytest
import small_segmentation

import keras_hybrid.training.run.run as run_module
from keras_hybrid.training.segmentation_evaluation import evaluate_segmentation
from keras_hybrid.workflows.answers.compared_images import compared_images
from keras_hybrid.workflows.int8_recipe import QuantizedRecipe
from keras_hybrid.workflows.int8_report import quantized_report
from keras_hybrid.workflows.int8_run import train_quantized

NUMBERS = QuantizedRecipe(epochs=1, calibration_images=8, learning_rate=1e-3)


def test_what_one_file_cannot_have_is_left_out_of_the_training():
    trained = dataclasses.replace(
        small_segmentation.RECIPE,
        head_options={"auxiliary": True, "neck_channels": 8},
        evaluation_fit="short_side",
        ema_momentum=0.9,
    )
    training = NUMBERS.training_recipe(trained)
    assert training.head_options == {"neck_channels": 8} and not training.any_size
    assert training.ema_momentum is None and training.resize_scale == trained.resize_scale


@pytest.mark.large
def test_a_run_is_trained_on_in_int8_and_measured(tmp_path, monkeypatch, require):
    require(module="tensorflow_model_optimization")
    require(module="ai_edge_litert")
    monkeypatch.setattr(run_module, "new_network", small_segmentation.make_tiny_dense_network)
    source = small_segmentation.make_masked_source()
    recipe = dataclasses.replace(small_segmentation.RECIPE, epochs=6)
    run = run_module.train(recipe, source, tmp_path / "float", stream=io.StringIO())
    made = train_quantized(run, NUMBERS, tmp_path / "int8", source=source, stream=io.StringIO())
    assert "val_mean_iou" in made.history[-1]

    report = quantized_report(run, made, source)
    assert [row.name for row in report.rows] == ["float", "post-training", "trained"]
    exact, *rounded = report.rows
    found = evaluate_segmentation(run.model, source, recipe)
    assert exact.accuracy == pytest.approx(found.mean_iou, abs=2e-3)
    assert exact.agreement > 0.999
    for row in rounded:
        assert row.agreement > 0.98 and abs(row.accuracy - exact.accuracy) < 0.1
    assert "mIoU" in report.table(short=True)
    assert "mIoU is the file's on all test images" in report.path.read_text()

    wrong = np.zeros((4, 16, 16, 3), "float32")  # nothing, everywhere
    wrong[..., 0] = 1
    compared = compared_images(run, source)
    assert compared.score({"logits": wrong}) < 0.3
    with pytest.raises(ValueError):
        compared.score({"logits": wrong[:2]})
