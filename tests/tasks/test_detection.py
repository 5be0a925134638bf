"""Detectors on any backbone, their training, what they find in images, and average precision."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_hybrid
from keras_hybrid.analysis.cost import layer_costs
from keras_hybrid.layer_names import is_in_head
from keras_hybrid.tasks.detection.anchors import (
    RetinaNetAnchors,
    SSDAnchors,
    anchors_of,
    from_config,
    to_config,
)
from keras_hybrid.tasks.detection.class_names import COCO_CATEGORIES, COCO_NAMES, VOC_NAMES
from keras_hybrid.tasks.detection.detect import Placement, detections_of
from keras_hybrid.tasks.detection.objects import padded
from keras_hybrid.tasks.detection.systems import RETINANET, SSD
from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes
from keras_hybrid.weights.family import Preprocessing

SMALL = {"channels": 16, "head_convolutions": 1}
PLAIN = Preprocessing(64, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)


def small_backbone(shape=(64, 96, 3)):
    x = image = keras.Input(shape, name="image")
    for index in range(5):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name=f"down{index}")(x)
    return keras.Model(image, x, name="small")


def small_detector(head, shape=(64, 96, 3), classes=3):
    options = SMALL if head is keras_hybrid.retinanet else {}
    return head(small_backbone(shape), classes, **options)


def shapes(model):
    return {kind: tuple(tensor.shape) for kind, tensor in model.output.items()}


@pytest.fixture(scope="module")
def scenes():
    return digit_scenes(3, 64)


@pytest.mark.large
@pytest.mark.parametrize(
    "name, parameters, multiply_adds",
    [
        ("SSDLiteMobileViTXXS", 1_755_050, 842.0e6),
        ("SSDLiteMobileViTS", 5_738_826, 3426.7e6),
    ],
)
def test_ssdlite_costs_what_is_published(name, parameters, multiply_adds):
    model = getattr(keras_hybrid, name)()
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == parameters
    assert keras_hybrid.count_multiply_adds(model) == pytest.approx(multiply_adds, abs=0.05e6)
    assert shapes(model) == {"boxes": (None, 3232, 4), "classes": (None, 3232, 81)}


@pytest.mark.large
@pytest.mark.parametrize(
    "name, backbone, all_parameters, backbone_multiply_adds, all_multiply_adds",
    [
        # Table 4 counts neither norms' parameters nor, in the backbone, attention's products: it
        # has 2.4, 3.6 and 9.4.
        ("RetinaNetMobileFormer151M", 4_907_788, 14_385_664, 2.41, 161),
        ("RetinaNetMobileFormer214M", 5_728_344, 15_222_604, 3.60, 162),
        ("RetinaNetMobileFormer508M", 8_429_000, 17_968_316, 9.35, 168),
    ],
)
def test_retinanet_costs_what_table_4_says(
    name, backbone, all_parameters, backbone_multiply_adds, all_multiply_adds
):
    costs = layer_costs(getattr(keras_hybrid, name)(), (800, 1344))
    trunk = [cost for cost in costs if not is_in_head(cost.name)]
    assert sum(cost.parameters for cost in trunk) == backbone
    assert sum(cost.parameters for cost in costs) == all_parameters
    linear = [cost for cost in trunk if cost.kind != "DotProductAttention"]
    giga = sum(cost.multiply_adds for cost in linear) / 1e9
    assert round(giga, 2) == backbone_multiply_adds
    assert round(sum(cost.multiply_adds for cost in costs) / 1e9) == all_multiply_adds
    norms = {"BatchNormalization", "LayerNormalization", "LeanLayerNormalization"}
    plain = sum(cost.parameters for cost in costs if cost.kind not in norms)
    published = {"151M": 14.4, "214M": 15.2, "294M": 16.1, "508M": 17.9}
    assert round(plain / 1e6, 1) == pytest.approx(published[name[-4:]], abs=0.051)


@pytest.mark.large
@pytest.mark.parametrize(
    "head, name",
    [
        (keras_hybrid.ssdlite, "MobileFormer26M"),
        (keras_hybrid.ssdlite, "IFormerT"),
        (keras_hybrid.retinanet, "MobileViTXXS"),
        (keras_hybrid.retinanet, "IFormerT"),
    ],
)
def test_any_backbone_takes_a_step_is_saved_and_found_again(name, head, scenes, tmp_path):
    backbone = keras_hybrid.build_model(
        name, weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    model = head(backbone, 10, **(SMALL if head is keras_hybrid.retinanet else {}))
    images = np.stack([scene.image for scene in scenes])
    inputs = keras_hybrid.preprocess_input(images, model)
    objects = padded([keras_hybrid.Objects(s.boxes, s.labels) for s in scenes])
    training = keras_hybrid.DetectionTraining(model)
    with tf.GradientTape() as tape:
        loss = training.compute_loss(tf.constant(inputs), objects, model(inputs, training=True))
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path
    ssd = head is keras_hybrid.ssdlite
    kernel = model.get_layer("head_level0_classes" if ssd else "head_classes_output").kernel
    before = np.array(kernel)
    training.compile(keras.optimizers.SGD(0.001, global_clipnorm=1.0), run_eagerly=True)
    history = training.fit(inputs, objects, verbose=0).history
    assert set(history) == {"loss", "box_loss", "class_loss"} and np.isfinite(history["loss"]).all()
    assert not np.array_equal(before, kernel)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert anchors_of(again) == anchors_of(model)
    for one, other in zip(
        keras_hybrid.detect(model, images, score_threshold=0.0),
        keras_hybrid.detect(again, images, score_threshold=0.0),
        strict=True,
    ):
        assert len(one) >= 100
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.large
def test_a_classifier_starts_a_detector_and_classes_may_differ(tmp_path):
    size = {"weights": None, "input_shape": (64, 64, 3)}
    classifier = keras_hybrid.MobileViTXXS(classes=5, **size)
    classifier.save(tmp_path / "classifier.keras")
    with pytest.warns(UserWarning, match="neck_level2_depthwise"):
        dense = keras_hybrid.SSDLiteMobileViTXXS(
            weights=tmp_path / "classifier.keras", input_shape=(64, 64, 3), classes=4
        )
    kernel = "stage5_block1_fusion_conv"
    np.testing.assert_array_equal(
        dense.get_layer(kernel).kernel, classifier.get_layer(kernel).kernel
    )
    from keras_hybrid.weights.checkpoints.save import published_state_dict

    state = published_state_dict(dense, "authors")
    other = keras_hybrid.SSDLiteMobileViTXXS(input_shape=(64, 64, 3), classes=7)
    with pytest.raises(ValueError, match="ssd_heads.0.loc_cls_layer.pw_conv.block.conv.weight"):
        keras_hybrid.load_checkpoint(other, state)
    with pytest.warns(UserWarning, match="head_level0_classes"):
        keras_hybrid.load_checkpoint(other, state, allow_fresh_head=True)
    for name in ("head_level3_depthwise", kernel):
        np.testing.assert_array_equal(other.get_layer(name).kernel, dense.get_layer(name).kernel)
    # The authors' classifiers are known in timm's names, which start the backbone.
    state = published_state_dict(classifier, "timm")
    with warnings.catch_warnings(record=True):
        keras_hybrid.load_checkpoint(other, state, allow_fresh_head=True)
    np.testing.assert_array_equal(
        other.get_layer(kernel).kernel, classifier.get_layer(kernel).kernel
    )


def answers(model, boxes, labels, image, input_size):
    """Raw outputs that say exactly that these boxes, in pixels of the input, are there."""
    from keras_hybrid.tasks.detection.systems import system_of

    system, anchors = system_of(model), anchors_of(model).boxes(*input_size)
    unit = np.tile(input_size[::-1], 2) if system.shares else 1
    classes = shapes(model)["classes"][-1]
    offsets = np.zeros((1, len(anchors), 4), "float32")
    logits = np.full((1, len(anchors), classes), -9.0, "float32")
    logits[..., 0] = 9.0 if system.background else -9.0
    for box, label in zip(boxes, labels, strict=True):
        at = np.abs(anchors[:, :2] * np.tile(unit, 1)[:2] if system.shares else anchors[:, :2])
        center = (np.array(box)[:2] + np.array(box)[2:]) / 2
        anchor = np.abs(at - center).sum(1).argmin()
        offsets[0, anchor] = system.coder.encode(
            (np.array(box) / unit).astype("float32"), anchors[anchor]
        )
        logits[0, anchor] = -9.0
        logits[0, anchor, label + system.background] = 9.0
    return {"boxes": offsets, "classes": logits}


@pytest.mark.parametrize("head", [keras_hybrid.ssdlite, keras_hybrid.retinanet])
def test_boxes_come_back_in_the_pixels_of_the_image(head):
    """The image is 128 x 64 px; SSDLite stretches it, RetinaNet pads it."""
    model = small_detector(head, (128, 128, 3))
    stretched = head is keras_hybrid.ssdlite
    place = Placement((128, 128), (128, 128) if stretched else (64, 128), (32, 64))
    boxes = [[10, 12, 40, 50], [60, 5, 130, 30]]
    outputs = answers(model, boxes, [2, 0], None, (128, 128))
    (found,) = detections_of(outputs, model, [place])
    order = np.argsort(found.labels[:2])[::-1]
    assert found.labels[order].tolist() == [2, 0] and len(found) == 2
    scale = [0.5, 0.25, 0.5, 0.25] if stretched else [0.5] * 4
    expected = np.clip(np.array(boxes) * scale, 0, [64, 32, 64, 32])
    np.testing.assert_allclose(found.boxes[order], expected, atol=1e-3)


@pytest.mark.parametrize("head", [keras_hybrid.ssdlite, keras_hybrid.retinanet])
def test_images_of_any_size_one_or_several(head):
    model = small_detector(head)
    random = np.random.default_rng(0)
    images = [
        random.integers(0, 256, size).astype("uint8") for size in ((30, 50, 3), (200, 100, 3))
    ]
    options = {"preprocessing": PLAIN, "score_threshold": 0.0}
    several = keras_hybrid.detect(model, images, **options)
    alone = keras_hybrid.detect(model, images[1], **options)
    np.testing.assert_allclose(several[1].boxes, alone.boxes, atol=1e-3)
    for image, found in zip(images, several, strict=True):
        height, width, _ = image.shape
        assert (found.boxes >= 0).all() and (found.boxes <= [width, height] * 2).all()
        assert (np.diff(found.scores) <= 0).all() and found.labels.max() < 3
    figure = keras_hybrid.plot_detections(
        images,
        several,
        objects=[keras_hybrid.Objects([[1, 1, 9, 9]], [0])] * 2,
        score_threshold=0.0,
    )
    assert len(figure.axes) == 2


@pytest.mark.large
def test_a_network_of_any_size_takes_each_image_at_its_own():
    model = small_detector(keras_hybrid.retinanet, (None, None, 3))
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype("uint8")
    found = keras_hybrid.detect(model, image, preprocessing=PLAIN, score_threshold=0.0)
    assert len(found) == 100
    with pytest.raises(ValueError, match="size of the images must be known"):
        training = keras_hybrid.DetectionTraining(model)
        training.compute_loss(keras.Input((None, None, 3)), padded([]), None)


def test_what_is_not_finite_is_named():
    model = small_detector(keras_hybrid.ssdlite)
    place = Placement((64, 96), (64, 96), (64, 96))
    outputs = {kind: np.zeros((2, *x.shape[1:]), "float32") for kind, x in model.output.items()}
    outputs["boxes"][:, :, 2:] = 1e4  # e to the power of 2000
    found = detections_of(outputs, model, [place] * 2)
    assert all(np.isfinite(one.boxes).all() and len(one) for one in found)
    for kind, bad in (("boxes", np.nan), ("classes", np.inf)):
        broken = {key: value.copy() for key, value in outputs.items()}
        broken[kind][1, 5, 0] = bad
        with pytest.raises(ValueError, match="for image 1"):
            detections_of(broken, model, [place] * 2)
    with pytest.raises(ValueError, match="anchors are expected"):
        detections_of(outputs, model, [Placement((32, 96), (32, 96), (32, 96))])


def test_anchors_are_kept_in_the_model():
    for anchors in (SSDAnchors(minimum_scale=0.2), RetinaNetAnchors(scales=(1.0, 1.5))):
        assert from_config(to_config(anchors)) == anchors
    own = SSDAnchors(((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)))
    model = keras_hybrid.ssdlite(small_backbone(), 3, anchors=own)
    again = keras.Model.from_config(model.get_config())
    assert anchors_of(again) == own
    assert shapes(model)["boxes"][1] == len(own.boxes(64, 96))


def test_average_precision_by_hand():
    objects = [
        keras_hybrid.Objects([[0, 0, 10, 10], [20, 20, 40, 40]], [0, 1]),
        keras_hybrid.Objects([[5, 5, 50, 50], [60, 60, 90, 90]], [0, 0], crowd=[False, True]),
        keras_hybrid.Objects(np.zeros((0, 4)), []),
    ]
    perfect = [keras_hybrid.Detections(x.boxes, np.ones(len(x)), x.labels) for x in objects]
    found = keras_hybrid.average_precision(perfect, objects, 3)
    assert [found.ap, found.ap50, found.recall] == pytest.approx([1, 1, 1])
    assert found.by_class[:2] == pytest.approx([1, 1]) and np.isnan(found.by_class[2])
    nothing = keras_hybrid.Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert keras_hybrid.average_precision([nothing] * 3, objects, 3).ap == 0
    # A wrong class, but the right place; in the crowd nothing is wrong.
    swapped = [keras_hybrid.Detections(x.boxes, x.scores, 1 - x.labels) for x in perfect]
    assert keras_hybrid.average_precision(swapped, objects, 3).ap50 < 0.5
    assert keras_hybrid.average_precision(swapped, objects, 3, class_agnostic=True).ap50 == 1


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: keras_hybrid.ssdlite(small_backbone(), 0), "classes=0"),
        (lambda: keras_hybrid.retinanet(small_backbone(), 2, channels=0), "channels=0"),
        (
            lambda: keras_hybrid.ssdlite(small_backbone(), 2, anchors=SSDAnchors(((2,),), (16,))),
            "strides",
        ),
        (lambda: SSDAnchors(minimum_scale=2.0), "minimum_scale=2.0"),
        (lambda: keras_hybrid.detect(small_backbone(), []), "detector"),
        (lambda: keras_hybrid.DetectionTraining(small_backbone()), "detector"),
        (
            lambda: keras_hybrid.detect(
                small_detector(keras_hybrid.ssdlite), [], preprocessing=PLAIN
            ),
            "One image or more",
        ),
        (lambda: keras_hybrid.Objects([[0, 0, 1, 1]], []), "0 labels"),
        (lambda: keras_hybrid.Objects([[0, 0, np.nan, 1]], [0]), "finite"),
        (lambda: padded([keras_hybrid.Objects([[0, 0, 1, 1]] * 3, [0] * 3)], 2), "count=2"),
        (lambda: keras_hybrid.average_precision([], [], 3), "0 and 0"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_targets_are_checked():
    training = keras_hybrid.DetectionTraining(small_detector(keras_hybrid.ssdlite))
    training.compile("sgd")
    with pytest.raises(ValueError, match="boxes.*labels"):
        training.fit(np.zeros((1, 64, 96, 3)), np.zeros((1, 2)), verbose=0)


def test_names_of_classes():
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == len(COCO_CATEGORIES) == 80
    assert COCO_CATEGORIES[COCO_NAMES.index("toothbrush")] == 90
    assert COCO_CATEGORIES[COCO_NAMES.index("stop sign")] == 13
    assert len(VOC_NAMES) == 20 and list(VOC_NAMES) == sorted(VOC_NAMES)
    assert SSD.background and not RETINANET.background
