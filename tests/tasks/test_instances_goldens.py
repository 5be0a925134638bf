"""Mask R-CNN against the authors' and MMDetection's own code: each part alone, and the whole."""

import dense_inputs
import keras
import numpy as np
import pytest
from keras import ops

import keras_hybrid
from keras_hybrid.models.features import feature_pyramid
from keras_hybrid.tasks.detection.box_coder import corners
from keras_hybrid.tasks.detection.matching import IGNORED, match_retinanet
from keras_hybrid.tasks.instances import instance_detections, region_proposals
from keras_hybrid.tasks.instances.detect import find_instances
from keras_hybrid.tasks.instances.instance_detections import InstanceDetections, centers
from keras_hybrid.tasks.instances.mask_pasting import paste_masks
from keras_hybrid.tasks.instances.parts import AnyCount, parts_of
from keras_hybrid.tasks.instances.region_proposals import RegionProposals, region_anchors
from keras_hybrid.tasks.instances.roi_align import RoIAlign, levels_of
from keras_hybrid.weights.checkpoints.save import published_state_dict

STRIDES = (4, 8, 16, 32, 64)
HEADS = {"neck": "neck", "head_rpn": "rpn_head", "head_box": "roi_head", "head_mask": "roi_head"}


@pytest.fixture(scope="module")
def golden(dense_golden):
    return dense_golden("mask_rcnn_iformer_m")


@pytest.fixture(scope="module")
def case(golden):
    return golden["cases"][0]


@pytest.fixture(scope="module")
def network(golden, filled_state):
    """The golden's network, which takes images of any size, and its weights."""
    state = filled_state(golden)
    return keras_hybrid.load_checkpoint(keras_hybrid.MaskRCNNIFormerM(), state), state


def map_sizes(case):
    return [(-(-case["height"] // s), -(-case["width"] // s)) for s in STRIDES]


def check_samples(array, expected, tolerance=5e-5):
    """Of an array in the golden's own order."""
    array = np.asarray(array, "float64")
    assert list(array.shape) == expected["shape"]
    off = np.abs(array.ravel()[:: expected["step"]] - expected["values"]).max() / expected["std"]
    assert off <= tolerance, f"{off:.1e} of the deviation off"
    assert abs(array.mean() - expected["mean"]) <= tolerance * expected["std"]
    assert abs(array.std(ddof=1) - expected["std"]) <= tolerance * expected["std"]


def as_set(expected, boxes, scores, labels, tolerance, score_tolerance=1e-4):
    """How many of the golden's detections have no equal among ours."""
    missed = 0
    for box, score, label in expected:
        same = (labels == label) & (np.abs(scores - score) <= score_tolerance)
        missed += not (same & (np.abs(boxes - box).max(-1) <= tolerance)).any()
    return missed


def rows_of(section):
    rows = zip(section["boxes"], section["scores"], section["labels"], strict=True)
    return [*rows, *((row[:4], row[4], row[5]) for row in section["tail"])]


@pytest.mark.large
def test_map_by_map_and_the_whole_way(network, golden, case, check_tap):
    model, _ = network
    height, width = case["height"], case["width"]
    outputs = {f"backbone.{i}": feature_pyramid(model)[f"P{i + 2}"] for i in range(4)}
    first = parts_of(model).first.output
    outputs |= {f"neck.{i}": x for i, x in enumerate(first["maps"])}
    outputs["neck.4"] = model.get_layer("neck_p6_pool").output
    image = dense_inputs.image(height, width, case["batch"], golden["seed"])
    for name, array in keras.Model(model.input, outputs)(image, training=False).items():
        check_tap(array, case["taps"][name], name)
    parts = parts_of(model)
    found = parts.first(image, training=False)
    for i in range(5):
        check_tap(found["logits"][i], case["taps"][f"rpn_head.cls.{i}"], f"logits {i}")
        check_tap(found["offsets"][i], case["taps"][f"rpn_head.reg.{i}"], f"offsets {i}")

    size = np.array([case["img_shape"]], "float32")
    regions, scores = parts.regions([*found["logits"], *found["offsets"], size])
    expected = case["detections"]
    assert abs(int((np.asarray(scores) >= 0).sum()) - expected["proposals"]) <= 1
    result = {kind: x[0] for kind, x in find_instances(parts, image, size).items()}
    assert (result["scores"] > 0).sum() == expected["count"]
    boxes, scores, labels = result["boxes"], result["scores"], result["labels"]
    assert as_set(rows_of(expected), boxes, scores, labels, 2e-2) <= 1
    assert result["masks"].shape == (100, 28, 28)


@pytest.mark.large
def test_heads_and_what_their_weights_are_called(network, golden, case):
    model, state = network
    parts = {"backbone": 0, "neck": 0, "rpn_head": 0, "roi_head": 0}
    for layer in model.layers:
        part = next((HEADS[key] for key in HEADS if layer.name.startswith(key)), "backbone")
        parts[part] += sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
    assert parts == golden["parameters_of"] and sum(parts.values()) == golden["parameters"]
    found = published_state_dict(model, "mmengine")
    assert set(found) == set(state)
    for key in found:
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(found[key], state[key], err_msg=key)

    x = np.transpose(dense_inputs.array("roi_box", (6, 256, 7, 7)), (0, 2, 3, 1))[None]
    align = model.get_layer("head_box_align").output
    outputs = [model.get_layer(f"head_box_{kind}").output for kind in ("logits", "offsets")]
    logits, offsets = AnyCount(keras.Model(align, outputs))([x])
    check_samples(logits[0], case["box_head"]["cls"])
    check_samples(offsets[0], case["box_head"]["reg"])
    x = np.transpose(dense_inputs.array("roi_mask", (3, 256, 14, 14)), (0, 2, 3, 1))[None]
    align = model.get_layer("head_mask_align").output
    logits = AnyCount(keras.Model(align, model.get_layer("head_mask_logits").output))([x])
    check_samples(np.transpose(logits, (0, 3, 1, 2)), case["mask_head"]["logits"])


@pytest.mark.large
@pytest.mark.parametrize("variant, parameters", [("L", 34_500_008), ("L2", 44_155_984)])
def test_parameters(variant, parameters):
    model = getattr(keras_hybrid, f"MaskRCNNIFormer{variant}")(input_shape=(64, 64, 3))
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == parameters
    assert keras_hybrid.list_weights(f"MaskRCNNIFormer{variant}")[0].parameters == parameters


def test_anchors(case):
    boxes = np.asarray(corners(region_anchors().boxes(case["height"], case["width"])))
    start = 0
    for expected in case["anchors"]:
        level = boxes[start : start + expected["count"]]
        start += expected["count"]
        np.testing.assert_allclose(level[: len(expected["first"])], expected["first"], atol=1e-4)
        last = np.reshape(expected["last"], (-1, 4))
        np.testing.assert_allclose(level[-len(last) :], last, atol=1e-4)
    assert start == len(boxes)


def test_proposals(case):
    sizes = map_sizes(case)
    ends = np.cumsum([3 * h * w for h, w in sizes])
    pieces = np.split(dense_inputs.ranked("rpn_cls", ends[-1], -4, 4), ends[:-1])
    maps = [x.reshape(1, 3, h, w) for x, (h, w) in zip(pieces, sizes, strict=True)]
    maps += [
        dense_inputs.array(f"rpn_reg.{i}", (1, 12, h, w), 0.4) for i, (h, w) in enumerate(sizes)
    ]
    expected = case["proposals"]
    size = np.array([expected["img_shape"]], "float32")
    boxes, scores = RegionProposals()([*(np.transpose(x, (0, 2, 3, 1)) for x in maps), size])
    assert (np.asarray(scores) >= 0).sum() == expected["count"]
    rows = np.array(expected["rows"])
    np.testing.assert_allclose(boxes[0][:: expected["step"]], rows[:, :4], atol=1e-3)
    np.testing.assert_allclose(scores[0][:: expected["step"]], rows[:, 4], atol=1e-5)


def test_roi_align(case):
    expected = case["roi_align"]
    shape = [(2, 16, -(-case["height"] // s), -(-case["width"] // s)) for s in STRIDES[:4]]
    maps = [
        np.transpose(dense_inputs.array(f"feature.{i}", s), (0, 2, 3, 1))
        for i, s in enumerate(shape)
    ]
    rois = np.array(expected["rois"], "float32")
    assert np.asarray(levels_of(rois[:, 1:], 4)).tolist() == expected["levels"]
    boxes = np.stack([rois[:, 1:], rois[:, 1:]])  # each box in both images
    own = rois[:, 0].astype(int), np.arange(len(rois))
    for bins in (7, 14):
        found = np.asarray(RoIAlign(bins)([*maps, boxes]))[own]
        check_samples(np.transpose(found, (0, 3, 1, 2)), expected[f"out{bins}"], 1e-5)
        means = found.mean((1, 2, 3))
        np.testing.assert_allclose(means, expected[f"mean_per_roi{bins}"], atol=1e-6)


def test_coders(case):
    source, target = (dense_inputs.boxes(name, 6, 256, 320) for name in ("code_from", "code_to"))
    deltas = dense_inputs.array("code_deltas", (6, 4), 1.5)
    for name, coder in (("rpn", region_proposals.CODER), ("rcnn", instance_detections.CODER)):
        expected = case["coder"][name]
        anchors = np.asarray(centers(source))
        np.testing.assert_allclose(coder.encode(target, anchors), expected["encode"], atol=1e-3)
        decoded = np.clip(coder.decode(deltas, anchors), 0, [320, 256, 320, 256])
        np.testing.assert_allclose(decoded, expected["decode_clipped"], atol=1e-3)


def test_detections_of_made_up_outputs(case):
    expected = case["box_post"]
    height, width = expected["img_shape"]
    inputs = [
        dense_inputs.boxes("post_rois", 60, height, width)[None],
        dense_inputs.array("post_cls", (60, 81), 3.0)[None],
        dense_inputs.array("post_reg", (60, 320), 0.5)[None],
        np.array([[height, width]], "float32"),
    ]
    boxes, scores, labels = (np.asarray(x)[0] for x in InstanceDetections()(inputs))
    boxes = boxes / np.tile(expected["scale_factor"], 2)
    assert (scores > 0).sum() == expected["count"]
    assert labels[:20].tolist() == expected["labels"]
    np.testing.assert_allclose(boxes[:20], expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(scores[:20], expected["scores"], atol=1e-5)
    tail = np.array(expected["tail"])
    assert labels[20::7].tolist() == tail[:, 5].tolist()
    np.testing.assert_allclose(boxes[20::7], tail[:, :4], atol=1e-3)


def test_masks_are_pasted(case):
    expected = case["mask_paste"]
    height, width = expected["ori_shape"]
    boxes = dense_inputs.boxes("paste_boxes", 5, height, width)
    logits = dense_inputs.array("paste", (5, 80, 28, 28), 2.0)[range(5), expected["labels"]]
    masks = paste_masks(np.asarray(ops.sigmoid(logits)), boxes, height, width)
    columns, rows = np.arange(width), np.arange(height)[:, None]
    for mask, area, x, y in zip(
        masks, expected["area"], expected["sum_x"], expected["sum_y"], strict=True
    ):
        assert abs(mask.sum() - area) <= 2
        assert abs((mask * columns).sum() - x) <= 2 * width
        assert abs((mask * rows).sum() - y) <= 2 * height


@pytest.mark.parametrize("kind", ["assign_rpn", "assign_rcnn"])
def test_matches(case, kind):
    truth, expected = case["ground_truth"], case[kind]
    boxes = dense_inputs.boxes(truth["name"], truth["count"], *case["img_shape"])
    if kind == "assign_rpn":
        anchors = np.asarray(corners(region_anchors().boxes(case["height"], case["width"])))
        thresholds = {"positive": 0.7, "negative": 0.3, "least_claim": 0.3}
    else:
        more = dense_inputs.boxes("rcnn_proposals", 400, *case["img_shape"])
        anchors = np.concatenate([boxes, more])
        thresholds = {"positive": 0.5, "negative": 0.5, "least_claim": 0.5}
    labels = np.zeros((1, len(boxes)), "int32")
    (matches,) = np.asarray(match_retinanet(boxes[None], labels, anchors, **thresholds))
    positive = np.flatnonzero(matches >= 0)
    assert len(positive) == expected["positive"]
    assert (matches == IGNORED).sum() == expected["ignored"]
    assert np.bincount(matches[positive], minlength=5).tolist() == expected["per_gt"]
    assert [[a, matches[a]] for a in positive[:40]] == expected["positives"]
