"""What Mask R-CNN is trained on: what is drawn, targets, losses by hand, and a step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_hybrid
from keras_hybrid.tasks.detection.objects import padded
from keras_hybrid.tasks.instances import instance_detections, region_proposals
from keras_hybrid.tasks.instances.instance_detections import centers
from keras_hybrid.tasks.instances.instance_loss import (
    box_loss,
    drawn_regions,
    mask_loss,
    region_loss,
)
from keras_hybrid.tasks.instances.mask_targets import mask_targets
from keras_hybrid.tasks.instances.sampling import sample
from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes

PARTS = ("region_class", "region_box", "class", "box", "mask")


def test_drawing_keeps_the_shares():
    random = np.random.default_rng(0)
    kind = random.choice(3, (4, 200), p=[0.3, 0.5, 0.2])
    kind[1, :] = 1  # nothing positive
    kind[2, 5:] = 2  # hardly anything at all
    draws = random.uniform(size=(4, 200)).astype("float32")
    places, positive, negative = map(np.asarray, sample(kind == 0, kind == 1, draws, 32, 10))
    assert places.shape == (4, 32)
    for image in range(4):
        at = kind[image][places[image]]
        np.testing.assert_array_equal(at[positive[image]], 0)
        np.testing.assert_array_equal(at[negative[image]], 1)
        drawn = places[image][positive[image] | negative[image]]
        assert len(set(drawn)) == len(drawn)
        assert (np.diff(positive[image].astype(int)) <= 0).all()  # positives first
    assert positive.sum(1).tolist()[:2] == [10, 0] and negative.sum(1).tolist()[:2] == [22, 32]
    assert positive[2].sum() + negative[2].sum() == (kind[2] < 2).sum()
    again = np.asarray(sample(kind == 0, kind == 1, draws[::-1].copy(), 32, 10)[0])
    assert set(again[0]) != set(places[0])
    everything = sample(kind == 0, kind == 1, draws, 500, 0)
    assert everything[0].shape == (4, 200) and not np.asarray(everything[1]).any()


def test_targets_of_masks_are_what_is_inside():
    masks = np.zeros((1, 2, 16, 16), "uint8")
    masks[0, 0, 4:12, 4:12] = 1
    masks[0, 1, :, 8:] = 1
    regions = np.array([[[4, 4, 12, 12], [0, 0, 16, 16], [0, 0, 16, 16], [3, 3, 3, 9]]], "float32")
    found = np.asarray(mask_targets(masks, np.array([[0, 0, 1, 0]]), regions, 4))[0]
    np.testing.assert_array_equal(found[0], np.ones((4, 4)))
    inner = np.zeros((4, 4))
    inner[1:3, 1:3] = 1
    np.testing.assert_array_equal(found[1], inner)
    np.testing.assert_array_equal(found[2], [[0, 0, 1, 1]] * 4)
    assert not found[3].any()


def cross_entropy(logit, target):
    return np.log1p(np.exp(-logit if target else logit))


def test_losses_by_hand():
    boxes = np.array([[[8, 8, 40, 40], [0, 0, 0, 0]]], "float32")
    objects = {"boxes": boxes, "labels": np.array([[2, -1]])}
    anchors = np.array([[24, 24, 32, 32], [26, 24, 32, 32], [100, 100, 32, 32]], "float32")
    logits = np.array([[0.3, -0.2, 0.7]], "float32")
    offsets = np.full((1, 3, 4), 0.25, "float32")
    draws = np.array([[0.1, 0.2, 0.3]], "float32")
    found = region_loss(objects, logits, offsets, anchors, draws)
    target = np.asarray(region_proposals.CODER.encode(boxes[0, :1], anchors[:2]))
    expected = np.abs(0.25 - target).sum() / 3
    assert float(found["region_box"]) == pytest.approx(expected, rel=1e-5)
    expected = cross_entropy(0.3, 1) + cross_entropy(-0.2, 1) + cross_entropy(0.7, 0)
    assert float(found["region_class"]) == pytest.approx(expected / 3, rel=1e-5)

    regions = np.array([[[10, 8, 42, 40], [60, 60, 90, 90], [0, 0, 0, 0]]], "float32")
    drawn = drawn_regions(objects, regions, np.linspace(0.1, 0.9, 5)[None], 8, 4)
    assert np.asarray(drawn["positive"]).sum() == 2 and np.asarray(drawn["negative"]).sum() == 1
    assert np.asarray(drawn["labels"])[0, :2].tolist() == [2, 2]  # the object itself, too
    logits = np.random.default_rng(0).normal(0, 1, (1, 5, 4)).astype("float32")
    offsets = np.random.default_rng(1).normal(0, 1, (1, 5, 12)).astype("float32")
    found = box_loss(objects, drawn, logits, offsets)
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(log[0, 0, 2] + log[0, 1, 2] + log[0, 2, 3]) / 3
    assert float(found["class"]) == pytest.approx(expected, rel=1e-5)
    own = centers(np.asarray(drawn["regions"])[0, :2])
    target = instance_detections.CODER.encode(boxes[0, [0, 0]], own)
    expected = np.abs(offsets[0, :2, 8:] - np.asarray(target)).sum() / 3
    assert float(found["box"]) == pytest.approx(expected, rel=1e-4)

    objects["masks"] = np.zeros((1, 2, 64, 64), "uint8")
    objects["masks"][0, 0, 8:40, 8:24] = 1  # the left half of the object
    drawn = {key: value[:, :2] for key, value in drawn.items()}
    mask_logits = np.full((2, 4, 4, 3), 9.0, "float32")  # other classes do not count
    mask_logits[..., 2] = 0.5
    first, second = (np.asarray(drawn["regions"])[0, i, 0] for i in (0, 1))
    assert {first, second} == {8, 10}
    expected = (cross_entropy(0.5, 1) + cross_entropy(0.5, 0)) / 2
    assert float(mask_loss(objects, drawn, mask_logits)) == pytest.approx(expected, rel=1e-5)


def test_images_without_objects_have_a_loss():
    nothing = {"boxes": np.zeros((1, 1, 4), "float32"), "labels": np.full((1, 1), -1)}
    anchors = np.array([[24, 24, 32, 32]], "float32")
    logits, offsets = np.zeros((1, 1), "float32"), np.ones((1, 1, 4), "float32")
    found = region_loss(nothing, logits, offsets, anchors, np.full((1, 1), 0.5, "float32"))
    assert float(found["region_class"]) == pytest.approx(np.log(2))
    assert float(found["region_box"]) == 0
    drawn = drawn_regions(nothing, np.zeros((1, 3, 4), "float32"), np.full((1, 4), 0.5), 4, 2)
    assert not np.asarray(drawn["positive"]).any() and not np.asarray(drawn["negative"]).any()
    found = box_loss(nothing, drawn, np.ones((1, 4, 3), "float32"), np.ones((1, 4, 8), "float32"))
    assert float(found["class"]) == float(found["box"]) == 0
    nothing["masks"] = np.zeros((1, 1, 8, 8), "uint8")
    first = {key: value[:, :2] for key, value in drawn.items()}
    assert float(mask_loss(nothing, first, np.ones((2, 4, 4, 2), "float32"))) == 0


@pytest.fixture(scope="module")
def training():
    """A view of a narrow network on the smallest iFormer, its images and objects."""
    scenes = digit_scenes(2, 64)
    backbone = keras_hybrid.IFormerT(weights=None, include_top=False, input_shape=(64, 64, 3))
    model = keras_hybrid.mask_rcnn(
        backbone, 10, channels=8, box_units=16, mask_convolutions=1, max_proposals=40
    )
    images = keras_hybrid.preprocess_input(np.stack([x.image for x in scenes]), model)
    objects = [keras_hybrid.Objects(x.boxes, x.labels, masks=x.instances) for x in scenes]
    return keras_hybrid.InstanceTraining(model, 24, 8, 100), images, padded(objects)


@pytest.mark.large
def test_every_weight_learns_and_statistics_stay(training):
    view, images, objects = training
    model = view.network
    assert len(view.trainable_variables) == len(model.trainable_variables)
    with tf.GradientTape() as tape:
        outputs = view(tf.constant(images), training=True)
        loss = view.compute_loss(tf.constant(images), objects, outputs)
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path
    norm = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    before = [np.array(x) for x in norm.weights]
    view.compile(keras.optimizers.SGD(0.01, global_clipnorm=1.0))
    history = view.fit(images, objects, batch_size=2, epochs=2, verbose=0).history
    assert set(history) == {"loss", *(f"{kind}_loss" for kind in PARTS)}
    assert history["loss"] == pytest.approx(sum(np.array(history[f"{k}_loss"]) for k in PARTS))
    after = dict(zip(("gamma", "beta", "mean", "variance"), norm.weights, strict=True))
    assert not np.array_equal(before[0], after["gamma"])
    np.testing.assert_array_equal(before[2], after["mean"])
    np.testing.assert_array_equal(before[3], after["variance"])


def test_targets_are_checked(training):
    view, images, objects = training
    lacking = {key: objects[key] for key in ("boxes", "labels")}
    with pytest.raises(ValueError, match="masks"):
        view.compute_loss(images, lacking, {})
    with pytest.raises(ValueError, match="sample weights"):
        view.compute_loss(images, objects, {}, sample_weight=np.ones(2))
    with pytest.raises(ValueError, match="positive_regions=9"):
        keras_hybrid.InstanceTraining(view.network, 8, 9)
