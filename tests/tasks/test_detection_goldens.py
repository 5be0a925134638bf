"""The published detection systems, map by map, their anchors, detections, matches and losses."""

import dense_inputs
import keras
import numpy as np
import pytest
from fill import golden_input

import keras_hybrid
from keras_hybrid.models.features import feature_maps, feature_pyramid
from keras_hybrid.tasks.detection.anchors import RetinaNetAnchors, SSDAnchors
from keras_hybrid.tasks.detection.box_coder import BoxCoder, corners
from keras_hybrid.tasks.detection.detect import Placement, decode, detections_of
from keras_hybrid.tasks.detection.loss import retinanet_loss, ssd_loss
from keras_hybrid.tasks.detection.matching import IGNORED, match_retinanet, match_ssd
from keras_hybrid.tasks.detection.post_processing import select
from keras_hybrid.tasks.detection.retinanet import RetinaNetMobileFormer294M
from keras_hybrid.tasks.detection.ssdlite import SSDLiteMobileViTXS
from keras_hybrid.tasks.detection.systems import RETINANET, SSD, level_sizes
from keras_hybrid.weights.checkpoints.save import published_state_dict

LOSS_BAR = 1e-6  # relative


def trainable_parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def check_values(array, expected, where, tolerance):
    """Compares flat samples within a tolerance in standard deviations."""
    array = np.asarray(array, "float64")
    assert list(array.shape) == expected["shape"], where
    off = np.abs(array.ravel()[expected["indices"]] - expected["values"]).max() / expected["std"]
    assert off <= tolerance, f"{where}: {off:.1e} of its deviation off"
    assert abs(array.mean() - expected["mean"]) <= tolerance * expected["std"], where
    assert abs(array.std(ddof=1) - expected["std"]) <= tolerance * expected["std"], where


def check_state_dict(model, naming, expected):
    """Compares what a model's weights are published as, but for the counters of batches."""
    found = published_state_dict(model, naming)
    assert set(found) == set(expected)
    for key, value in found.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(value, expected[key], err_msg=key)


@pytest.fixture(scope="module")
def ssdlite(dense_golden, filled_state):
    """The golden's network, its weights, and its outputs on the golden's images."""
    golden = dense_golden("ssdlite_mobilevit_xs")
    state = filled_state(golden)
    model = keras_hybrid.load_checkpoint(SSDLiteMobileViTXS(), state)
    outputs = {"boxes": model.output["boxes"], "classes": model.output["classes"]}
    outputs |= dict(feature_maps(model))
    for index, name in enumerate(("64", "128", "256", "-1"), start=2):
        outputs[f"extra_os_{name}"] = model.get_layer(f"neck_level{index}_relu").output
    for index in range(6):
        for kind in ("boxes", "classes"):
            reshaped = model.get_layer(f"head_level{index}_{kind}_reshape").output
            outputs[f"head{index}_{kind}"] = reshaped
    image = golden_input(golden["resolution"], 2, golden["seed"])
    return model, state, keras.Model(model.input, outputs)(image, training=False)


@pytest.mark.large
def test_ssdlite_map_by_map(ssdlite, dense_golden, check_tap):
    golden = dense_golden("ssdlite_mobilevit_xs")
    model, _, found = ssdlite
    assert trainable_parameters(model) == golden["parameters"]
    for name, expected in golden["taps"].items():
        if name.startswith("head"):
            for kind in ("boxes", "classes"):
                check_values(found[f"{name}_{kind}"], expected[kind], f"{name} {kind}", 5e-5)
        else:
            check_tap(found[name], expected, name)
    check_values(found["boxes"], golden["outputs"]["boxes"], "boxes", 5e-5)
    check_values(found["classes"], golden["outputs"]["class_logits"], "classes", 5e-5)


@pytest.mark.large
def test_ssdlite_checkpoints_go_both_ways(ssdlite):
    model, state, _ = ssdlite
    check_state_dict(model, "authors", state)


@pytest.mark.large
def test_ssdlite_finds_what_the_authors_find(ssdlite, dense_golden):
    golden = dense_golden("ssdlite_mobilevit_xs")
    model, _, found = ssdlite
    anchors = SSDAnchors().boxes(320, 320)
    expected = golden["anchors"]
    flat = anchors.ravel()
    assert np.abs(flat[expected["indices"]] - expected["values"]).max() <= 1e-6
    assert np.abs(anchors[:6] - expected["first_rows"]).max() <= 1e-6
    assert np.abs(anchors[-4:] - expected["last_rows"]).max() <= 1e-6
    np.testing.assert_allclose(anchors.sum(0, "float64"), expected["column_sums"], rtol=1e-6)

    decoded = decode(SSD, np.asarray(found["boxes"][0]), anchors)
    check_values(decoded[None], golden["decoded_boxes"], "decoded", 5e-5)
    place = Placement((320, 320), (320, 320), (320, 320))
    first = {key: found[key][:1] for key in ("boxes", "classes")}
    (detections,) = detections_of(first, model, [place])
    expected = golden["detections"]
    boxes = np.clip(expected["boxes"], 0, 1) * 320
    missed = 0
    for label, score, box in zip(expected["labels"], expected["scores"], boxes, strict=True):
        same = (detections.labels == label - 1) & (np.abs(detections.scores - score) <= 1e-5)
        same &= np.abs(detections.boxes - box).max(-1) <= 1e-4 * 320
        missed += not same.any()
    assert len(detections) == 200 and missed <= 2


@pytest.mark.large
def test_ssdlite_matches_and_loss(ssdlite, dense_golden):
    golden = dense_golden("ssdlite_mobilevit_xs")["training"]
    *_, found = ssdlite
    count = max(len(image["boxes"]) for image in golden["images"])
    boxes, labels = np.zeros((2, count, 4)), np.full((2, count), -1)
    for index, image in enumerate(golden["images"]):
        boxes[index, : len(image["boxes"])] = image["boxes"]
        labels[index, : len(image["labels"])] = np.array(image["labels"]) - 1
    anchors = SSDAnchors().boxes(320, 320)
    matches = np.asarray(match_ssd(boxes, labels, corners(anchors)))
    for index, image in enumerate(golden["images"]):
        positive = np.flatnonzero(matches[index] >= 0)
        assert positive.tolist() == image["positive_anchors"]
        of = matches[index][positive]
        assert (labels[index][of] + 1).tolist() == image["positive_labels"]
        targets = SSD.coder.encode(boxes[index][of].astype("float32"), anchors[positive])
        key = next(key for key in image if "target" in key)
        np.testing.assert_allclose(targets, image[key], atol=2e-5)
    loss = ssd_loss(boxes, labels, found, anchors, SSD.coder)
    assert float(loss["boxes"]) == pytest.approx(golden["loss"]["reg_loss"], rel=LOSS_BAR)
    assert float(loss["classes"]) == pytest.approx(golden["loss"]["cls_loss"], rel=LOSS_BAR)


def test_both_rules_of_ssd(dense_golden):
    golden = dense_golden("ssd_postprocess")
    rng = np.random.default_rng([0, 3232])
    offsets = 0.5 * rng.standard_normal((3232, 4))
    logits = 2 * rng.standard_normal((3232, 81))
    logits[:, 0] += 4
    anchors = SSDAnchors().boxes(320, 320)
    boxes = decode(SSD, offsets.astype("float32"), anchors)
    np.testing.assert_allclose(boxes[:5], golden["decoded_first_rows"], atol=1e-5)
    scores = np.asarray(SSD.scores(logits.astype("float32")))
    later = golden["detections"]
    found = select(boxes, scores, SSD.rule)
    assert (found.labels + 1).tolist() == later["labels"]
    np.testing.assert_allclose(found.scores, later["scores"], atol=1e-5)
    np.testing.assert_allclose(found.boxes, later["boxes"], atol=1e-5)
    earlier = golden["detections_v01"]
    found = select(boxes, scores, SSD.earlier_rule)
    assert len(found) == earlier["count"]
    counts = np.bincount(found.labels, minlength=80)
    assert [0, *counts] == earlier["per_class_counts"]
    assert (found.labels[:100] + 1).tolist() == earlier["top100_labels"]
    np.testing.assert_allclose(found.boxes[:100], earlier["top100_boxes"], atol=1e-5)


@pytest.mark.large
def test_retinanet_map_by_map(dense_golden, filled_state, check_tap):
    golden = dense_golden("retinanet_mobile_former_294m")
    (case,) = golden["cases"]
    height, width = case["height"], case["width"]
    model = RetinaNetMobileFormer294M(input_shape=(height, width, 3))
    state = filled_state(golden)
    keras_hybrid.load_checkpoint(model, state)
    assert trainable_parameters(model) == golden["parameters"]
    parts = {"neck": 0, "bbox_head": 0, "backbone": 0}
    for layer in model.layers:
        part = {"neck": "neck", "head": "bbox_head"}.get(layer.name.split("_")[0], "backbone")
        parts[part] += trainable_parameters(layer)
    assert parts == golden["parameters_of"]
    check_state_dict(model, "mmengine", state)

    outputs = {f"backbone.{i}": feature_pyramid(model)[f"P{i + 3}"] for i in range(3)}
    outputs |= {f"neck.{i}": model.get_layer(f"neck_p{i + 3}_output").output for i in range(5)}
    for kind, short in (("classes", "cls"), ("boxes", "reg")):
        for i in range(5):
            reshape = model.get_layer(f"head_{kind}_p{i + 3}_reshape")
            outputs[f"bbox_head.{short}.{i}"] = reshape.input
    image = dense_inputs.image(height, width, case["batch"], golden["seed"])
    found = keras.Model(model.input, outputs)(image, training=False)
    for name, array in found.items():
        check_tap(array, case["taps"][name], name)


def test_retinanet_from_anchors_to_loss(dense_golden):
    (case,) = dense_golden("retinanet_mobile_former_294m")["cases"]
    height, width = case["height"], case["width"]
    anchors = RetinaNetAnchors().boxes(height, width)
    levels = level_sizes(RetinaNetAnchors(), height, width)
    starts = np.cumsum([0, *levels])
    boxes_of_anchors = np.asarray(corners(anchors))
    for start, end, expected in zip(starts, starts[1:], case["anchors"], strict=False):
        level = boxes_of_anchors[start:end]
        assert len(level) == expected["count"]
        first = np.array(expected["first"])
        np.testing.assert_allclose(level[: len(first)], first, atol=1e-4)
        np.testing.assert_allclose(level[-1], np.ravel(expected["last"])[-4:], atol=1e-4)

    coder = case["coder"]["rpn"]
    source, target = (dense_inputs.boxes(name, 6, 256, 320) for name in ("code_from", "code_to"))
    source = centers(source)
    encoded = RETINANET.coder.encode(target, source)
    np.testing.assert_allclose(encoded, coder["encode"], atol=1e-3)
    deltas = dense_inputs.array("code_deltas", (6, 4), 1.5)
    decoded = np.clip(RETINANET.coder.decode(deltas, source), 0, [320, 256, 320, 256])
    np.testing.assert_allclose(decoded, coder["decode_clipped"], atol=1e-3)

    outputs = {"boxes": [], "classes": []}
    for i, stride in enumerate(RetinaNetAnchors().strides):
        h, w = -(-height // stride), -(-width // stride)
        maps = {
            "classes": dense_inputs.array(f"retina_cls.{i}", (1, 720, h, w), 1.0, -4.0),
            "boxes": dense_inputs.array(f"retina_reg.{i}", (1, 36, h, w), 0.4),
        }
        for kind, x in maps.items():
            values = 80 if kind == "classes" else 4
            outputs[kind].append(np.transpose(x, (0, 2, 3, 1)).reshape(1, -1, values))
    outputs = {kind: np.concatenate(found, axis=1) for kind, found in outputs.items()}
    post = case["post"]
    limits = np.tile(post["img_shape"][::-1], 2)
    boxes = np.clip(decode(RETINANET, outputs["boxes"][0], anchors), 0, limits)
    boxes = boxes / np.tile(post["scale_factor"], 2)
    scores = np.asarray(RETINANET.scores(outputs["classes"][0]))
    found = select(boxes, scores, RETINANET.rule, levels)
    assert len(found) == post["count"]
    assert found.labels[:20].tolist() == post["labels"]
    np.testing.assert_allclose(found.boxes[:20], post["boxes"], atol=1e-3)
    np.testing.assert_allclose(found.scores[:20], post["scores"], atol=1e-5)
    tail = np.array(post["tail"])
    assert found.labels[20::7].tolist() == tail[:, 5].tolist()
    np.testing.assert_allclose(found.boxes[20::7], tail[:, :4], atol=1e-3)

    truth = case["ground_truth"]
    boxes = dense_inputs.boxes(truth["name"], truth["count"], *case["img_shape"])[None]
    labels = np.array(truth["labels"])[None]
    (matches,) = np.asarray(match_retinanet(boxes, labels, boxes_of_anchors))
    expected = case["assign"]
    positive = np.flatnonzero(matches >= 0)
    assert len(positive) == expected["positive"]
    assert (matches == IGNORED).sum() == expected["ignored"]
    assert np.bincount(matches[positive], minlength=5).tolist() == expected["per_gt"]
    assert [[a, matches[a]] for a in positive[:40]] == expected["positives"]

    loss = retinanet_loss(boxes, labels, outputs, anchors, RETINANET.coder)
    assert float(loss["classes"]) == pytest.approx(case["loss"]["cls_sum"], rel=LOSS_BAR)
    assert float(loss["boxes"]) == pytest.approx(case["loss"]["box_sum"], rel=LOSS_BAR)


def centers(boxes):
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def test_the_coder_inverts_itself():
    anchors = centers(dense_inputs.boxes("anchors", 50, 100, 200))
    boxes = dense_inputs.boxes("boxes", 50, 100, 200)
    for coder in (SSD.coder, BoxCoder(1.0, 1.0, 10.0)):
        again = coder.decode(coder.encode(boxes, anchors), anchors)
        np.testing.assert_allclose(again, boxes, atol=1e-3)
