"""Heads on any backbone, the loss and the metric on cases done by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_hybrid
from keras_hybrid.tasks.segmentation.deeplabv3 import (
    DeepLabV3MobileViTS,
    DeepLabV3MobileViTXS,
    DeepLabV3MobileViTXXS,
    deeplabv3,
)
from keras_hybrid.tasks.segmentation.loss import LabelledMeanIoU, SegmentationLoss
from keras_hybrid.tasks.segmentation.semantic_fpn import (
    SemanticFPNIFormerL,
    SemanticFPNIFormerL2,
    semantic_fpn,
)

SMALL = {"neck_channels": 16, "head_channels": 8}


@pytest.mark.large
@pytest.mark.parametrize(
    "builder, options, parameters",
    [
        (DeepLabV3MobileViTXS, {}, 2_944_069),
        (DeepLabV3MobileViTS, {"output_stride": 8}, 8_537_269),
        (SemanticFPNIFormerL, {}, 18_599_246),
        (SemanticFPNIFormerL2, {}, 28_255_222),
    ],
)
def test_parameters_are_the_published_ones(builder, options, parameters):
    model = builder(input_shape=(128, 128, 3), **options)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


@pytest.mark.large
@pytest.mark.parametrize(
    "head, name",
    [
        (deeplabv3, "MobileFormer26M"),
        (deeplabv3, "IFormerT"),
        (deeplabv3, "MobileViTXXS"),
        (semantic_fpn, "MobileFormer26M"),
        (semantic_fpn, "IFormerT"),
        (semantic_fpn, "MobileViTXXS"),
    ],
)
def test_any_backbone_takes_a_step_and_is_saved(name, head, tmp_path):
    backbone = keras_hybrid.build_model(
        name, weights=None, include_top=False, input_shape=(64, 96, 3)
    )
    options = SMALL if head is semantic_fpn else {"aspp_channels": 8}
    model = head(backbone, 3, **options)
    stride = 4 if head is semantic_fpn else 32
    assert model.output_shape == (None, 64 // stride, 96 // stride, 3)
    images = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype("float32")
    labels = np.random.default_rng(1).integers(0, 3, (2, 64, 96))
    labels[:, :5] = 255
    with tf.GradientTape() as tape:
        loss = SegmentationLoss()(labels, model(images, training=True))
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path
    model.compile("sgd", SegmentationLoss(), metrics=[LabelledMeanIoU(3)], run_eagerly=True)
    history = model.fit(images, labels, verbose=0).history
    assert np.isfinite(history["loss"][0]) and 0 <= history["mean_iou"][0] <= 1
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(images), model(images), atol=1e-5)
    path = keras_hybrid.export_tflite(again, tmp_path / "model.tflite", output="logits")
    assert keras_hybrid.verify_tflite(path, model, images).relative_error < 1e-4


@pytest.mark.large
def test_a_classifier_starts_a_dense_network_and_the_other_way_round(tmp_path):
    """The backbone's weights are taken, what the other one has beside them is left."""
    size = {"weights": None, "input_shape": (64, 64, 3)}
    classifier = keras_hybrid.MobileViTXXS(classes=5, **size)
    dense = DeepLabV3MobileViTXXS(input_shape=(64, 64, 3), classes=4)
    path = tmp_path / "classifier.keras"
    classifier.save(path)
    with pytest.warns(UserWarning, match="head_aspp0"):
        keras_hybrid.load_checkpoint(dense, path, allow_fresh_head=True)
    kernel = "stage5_block1_fusion_conv"
    np.testing.assert_array_equal(
        dense.get_layer(kernel).kernel, classifier.get_layer(kernel).kernel
    )
    backbone = keras_hybrid.MobileViTXXS(include_top=False, **size)
    dense.save(tmp_path / "dense.keras")
    keras_hybrid.load_checkpoint(backbone, tmp_path / "dense.keras", allow_fresh_head=True)
    np.testing.assert_array_equal(backbone.get_layer(kernel).kernel, dense.get_layer(kernel).kernel)


def test_the_loss_counts_what_has_a_class():
    labels = np.array([[[0, 1], [255, 255]]])
    logits = np.log(np.array([[[[0.5, 0.5], [0.2, 0.8]], [[0.9, 0.1], [0.9, 0.1]]]], "float32"))
    by_hand = -np.log(0.5) - np.log(0.8)
    assert float(SegmentationLoss()(labels, logits)) == pytest.approx(by_hand / 2, rel=1e-5)
    assert float(SegmentationLoss("all")(labels, logits)) == pytest.approx(by_hand / 4, rel=1e-5)
    weighted = SegmentationLoss(class_weights=(1.0, 3.0))(labels, logits)
    assert float(weighted) == pytest.approx((-np.log(0.5) - 3 * np.log(0.8)) / 2, rel=1e-5)
    nothing = np.full_like(labels, 255)
    assert float(SegmentationLoss()(nothing, logits)) == 0


def test_the_metric_is_one_confusion_matrix():
    labels = np.array([[[0, 1], [1, 255]], [[0, 0], [0, 0]]])
    logits = np.eye(3)[np.array([[[0, 1], [0, 2]], [[0, 0], [0, 1]]])].astype("float32")
    metric = LabelledMeanIoU(3)
    for image, mask in zip(logits, labels, strict=True):
        metric.update_state(mask[None], image[None])
    # Class 0: 4 of 6 pixels; class 1: 1 of 3; class 2 is nowhere.
    assert float(metric.result()) == pytest.approx((4 / 6 + 1 / 3) / 2)


def no_maps():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda backbone: deeplabv3(backbone, 0), "classes=0"),
        (lambda backbone: semantic_fpn(backbone, 2.5), "classes=2.5"),
        (lambda _: SegmentationLoss("pixels"), "divisor='pixels'"),
        (lambda _: SegmentationLoss(interpolation="cubic"), "interpolation='cubic'"),
        (lambda _: DeepLabV3MobileViTXS(output_stride=4), "output_stride=4"),
        (lambda _: semantic_fpn(no_maps(), 2), "strides"),
    ],
)
def test_bad_input_is_named(make, message):
    x = keras.Input((64, 64, 3))
    y = x
    for _ in range(5):
        y = keras.layers.Conv2D(4, 3, strides=2, padding="same")(y)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make(keras.Model(x, y))
