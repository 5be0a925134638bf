"""Matching, losses, negatives and selection: each beside plain NumPy, and in the corners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_hybrid.tasks.detection.loss import (
    hard_negatives,
    retinanet_loss,
    sigmoid_focal_loss,
    smooth_l1,
    ssd_loss,
)
from keras_hybrid.tasks.detection.matching import (
    BACKGROUND,
    IGNORED,
    match_retinanet,
    match_ssd,
    overlaps,
)
from keras_hybrid.tasks.detection.post_processing import SelectionRule, select
from keras_hybrid.tasks.detection.systems import RETINANET, SSD


def plain_overlap(box, other, epsilon=0.0):
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = [max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1]) for b in (box, other)]
    union = sum(areas) - width * height + epsilon
    return width * height / union if union > 0 else 0.0


def plain_table(boxes, anchors, epsilon=0.0):
    return np.array([[plain_overlap(box, anchor, epsilon) for anchor in anchors] for box in boxes])


def plain_match_ssd(boxes, anchors):
    table = plain_table(boxes, anchors, 1e-5)
    found = np.where(table.max(0) >= 0.5, table.argmax(0), BACKGROUND)
    for index, row in enumerate(table):
        found[row.argmax()] = index
    return found


def plain_match_retinanet(boxes, anchors):
    table = plain_table(boxes, anchors)
    found = np.full(len(anchors), IGNORED)
    found[table.max(0) < 0.4] = BACKGROUND
    found[table.max(0) >= 0.5] = table.argmax(0)[table.max(0) >= 0.5]
    for index, row in enumerate(table):
        if row.max() > 0:
            found[row == row.max()] = index
    return found


def quarters(count):
    """Boxes on a coarse grid, whose overlaps are exact in float32 often enough to tie."""
    corner = st.integers(0, 12)
    side = st.integers(1, 4).map(lambda power: 2**power)
    box = st.tuples(corner, corner, side, side)
    return st.lists(box.map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])), **count)


@settings(max_examples=30, deadline=None)
@given(quarters({"min_size": 1, "max_size": 5}), quarters({"min_size": 3, "max_size": 30}))
def test_matching_is_the_plain_rule(boxes, anchors):
    boxes, anchors = np.array(boxes, "float32"), np.array(anchors, "float32")
    labels = np.zeros(len(boxes), "int32")
    np.testing.assert_allclose(overlaps(boxes, anchors), plain_table(boxes, anchors), atol=1e-6)
    for match, plain in (
        (match_ssd, plain_match_ssd),
        (match_retinanet, plain_match_retinanet),
    ):
        (found,) = np.asarray(match(boxes[None], labels[None], anchors))
        expected = plain(boxes, anchors)
        # Overlaps of 1/2 and 2/5 may fall on either side of a threshold by rounding.
        table = plain_table(boxes, anchors).max(0)
        sure = (np.abs(table - 0.5) > 1e-4) & (np.abs(table - 0.4) > 1e-4)
        claimed = plain_table(boxes, anchors)
        claimed = (claimed >= claimed.max(1, keepdims=True) - 1e-6).any(0)
        np.testing.assert_array_equal(found[sure | claimed], expected[sure | claimed])


@pytest.mark.parametrize("match", [match_ssd, match_retinanet])
def test_what_is_no_object_counts_nothing(match):
    anchors = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5]], "float32")
    boxes = np.array([[[0, 0, 1, 1], [0.2, 0.2, 0.2, 0.9], [0, 0, 0.5, 0.5]]], "float32")
    assert match(boxes, np.array([[3, 1, -1]]), anchors).numpy().tolist() == [[0, BACKGROUND]]
    nothing = match(np.zeros((2, 0, 4)), np.zeros((2, 0), int), anchors)
    assert (np.asarray(nothing) == BACKGROUND).all()
    far = np.array([[[5, 5, 6, 6]]], "float32")
    found = np.asarray(match(far, np.array([[0]]), anchors))
    # SSD's objects claim an anchor come what may; RetinaNet's none that they do not touch.
    assert found.max() == (0 if match is match_ssd else BACKGROUND)


def test_the_later_of_two_claims_wins():
    anchors = np.array([[0, 0, 10, 10], [30, 30, 31, 31]], "float32")
    boxes = np.array([[[0, 0, 9, 10], [0, 0, 2, 2]]], "float32")
    for match in (match_ssd, match_retinanet):
        assert np.asarray(match(boxes, np.array([[0, 0]]), anchors))[0, 0] == 1


def test_hard_negatives_are_the_hardest():
    losses = np.array([[5.0, 9, 1, 3, 2, 4], [1, 2, 3, 4, 5, 6]], "float32")
    positive = np.array([[False, True, False, False, False, False], [False] * 6])
    chosen = np.asarray(hard_negatives(losses, positive))
    assert np.flatnonzero(chosen[0]).tolist() == [0, 3, 5] and not chosen[1].any()
    every = np.asarray(hard_negatives(losses, positive | np.array([[True] * 3 + [False] * 3] * 2)))
    assert every.sum(1).tolist() == [3, 3]  # fewer are left than three a positive


def test_parts_of_the_losses():
    difference = np.array([-3.0, -0.5, 0.0, 1.0])
    np.testing.assert_allclose(smooth_l1(difference), [2.5, 0.125, 0, 0.5])
    logits, targets = np.array([-2.0, 0.5, 60.0, -60.0]), np.array([0.0, 1.0, 1.0, 1.0])
    p = 1 / (1 + np.exp(-logits))
    by_hand = np.where(
        targets == 1,
        -0.25 * (1 - p) ** 2 * np.log(p),
        -0.75 * p**2 * np.log(np.maximum(1 - p, 1e-300)),
    )
    np.testing.assert_allclose(sigmoid_focal_loss(targets, logits), by_hand, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("system, loss", [(SSD, ssd_loss), (RETINANET, retinanet_loss)])
def test_losses_by_hand(system, loss):
    random = np.random.default_rng(3)
    corner = random.uniform(0, 0.6, (40, 2))
    sides = random.uniform(0.1, 0.4, (40, 2))
    anchors = np.concatenate([corner + sides / 2, sides], axis=1).astype("float32")
    boxes = np.concatenate([corner, corner + sides], axis=1)[[[3, 17], [9, 0]]] + 0.01
    labels = np.array([[2, 0], [1, -1]])
    classes = 3 + system.background
    offsets = random.normal(size=(2, 40, 4)).astype("float32")
    logits = random.normal(size=(2, 40, classes)).astype("float32")
    got = loss(boxes, labels, {"boxes": offsets, "classes": logits}, anchors, system.coder)

    regression = classification = positives = 0.0
    corners = np.concatenate([corner, corner + sides], axis=1)
    plain = plain_match_ssd if system.background else plain_match_retinanet
    for image, count in enumerate((2, 1)):
        found = plain(boxes[image, :count], corners)
        positive = np.flatnonzero(found >= 0)
        positives += max(len(positive), 0 if system.background else 1)
        for anchor in positive:
            x1, y1, x2, y2 = boxes[image, found[anchor]]
            x, y, width, height = anchors[anchor]
            target = np.array(
                [
                    ((x1 + x2) / 2 - x) / width / system.coder.center_scale,
                    ((y1 + y2) / 2 - y) / height / system.coder.center_scale,
                    np.log((x2 - x1) / width) / system.coder.size_scale,
                    np.log((y2 - y1) / height) / system.coder.size_scale,
                ]
            )
            off = np.abs(offsets[image, anchor] - target)
            small = np.where(off < 1, off**2 / 2, off - 0.5)
            regression += (small if system.background else off).sum()
        if system.background:
            log = logits[image] - np.log(np.exp(logits[image]).sum(-1, keepdims=True))
            target = np.zeros(40, int)
            target[positive] = 1 + labels[image][found[positive]]
            hardness = np.where(found >= 0, -np.inf, -log[:, 0])
            hardest = np.argsort(-hardness)[: 3 * len(positive)]
            counted = np.union1d(positive, hardest)
            classification -= log[counted, target[counted]].sum()
        else:
            target = np.zeros((40, 3))
            target[positive, labels[image][found[positive]]] = 1
            p = 1 / (1 + np.exp(-logits[image].astype("float64")))
            focal = -np.where(
                target == 1, 0.25 * (1 - p) ** 2 * np.log(p), 0.75 * p**2 * np.log(1 - p)
            )
            classification += focal[found != IGNORED].sum()
    assert float(got["boxes"]) == pytest.approx(regression / positives, rel=1e-5)
    assert float(got["classes"]) == pytest.approx(classification / positives, rel=1e-5)


def test_a_batch_without_objects_trains_the_background_alone():
    anchors = np.array([[0.5, 0.5, 1, 1], [0.2, 0.2, 0.1, 0.1]], "float32")
    outputs = {"boxes": np.ones((1, 2, 4), "float32"), "classes": np.ones((1, 2, 3), "float32")}
    boxes, labels = np.zeros((1, 1, 4)), np.array([[-1]])
    for system, loss in ((SSD, ssd_loss), (RETINANET, retinanet_loss)):
        found = loss(boxes, labels, outputs, anchors, system.coder)
        assert float(found["boxes"]) == 0 and np.isfinite(float(found["classes"]))
        # SSD has three negatives a positive: none.
        assert (float(found["classes"]) > 0) == (system is RETINANET)


def plain_select(boxes, scores, rule):
    found = []
    for label in range(scores.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")
        order = [a for a in order if scores[a, label] > rule.score_threshold][: rule.candidates]
        kept = []
        for anchor in order:
            if all(
                plain_overlap(boxes[anchor], boxes[other]) <= rule.overlap_threshold
                for other in kept
            ):
                kept.append(anchor)
        found += [(anchor, label) for anchor in kept[: rule.class_limit]]
    found.sort(key=lambda pair: -scores[pair])
    return found[: rule.limit]


@settings(max_examples=20, deadline=None)
@given(quarters({"min_size": 1, "max_size": 40}), st.integers(0, 2**16))
def test_selection_is_the_plain_rule(boxes, seed):
    """Scores tie and overlaps are exactly the threshold: both are frequent here."""
    boxes = np.array(boxes, "float32")
    scores = np.random.default_rng(seed).integers(0, 8, (len(boxes), 3)) / 8
    for rule in (
        SelectionRule(0.25, 0.5, candidates=10, limit=7),
        SelectionRule(0.125, 0.5, candidates=None, class_limit=4),
    ):
        found = select(boxes, scores, rule)
        expected = plain_select(boxes, scores, rule)
        assert found.labels.tolist() == [label for _, label in expected]
        np.testing.assert_array_equal(found.boxes, boxes[[anchor for anchor, _ in expected]])


def test_selection_ends_whatever_it_is_given():
    rule = SelectionRule(0.05, 0.5, candidates=1000, of_each="level", limit=100)
    boxes = np.random.default_rng(0).uniform(0, 100, (6000, 4)).astype("float32")
    equal = select(boxes, np.full((6000, 3), 0.5), rule, levels=(4000, 2000))
    assert len(equal) == 100 and (equal.scores == 0.5).all()
    nothing = select(boxes, np.zeros((6000, 3)), rule, levels=(4000, 2000))
    assert len(nothing) == 0 and nothing.boxes.shape == (0, 4)
    assert len(select(np.zeros((0, 4)), np.zeros((0, 3)), SSD.rule)) == 0


@pytest.mark.parametrize(
    "boxes, scores, message",
    [
        (np.full((3, 4), np.nan), np.ones((3, 2)), "12 numbers of boxes"),
        (np.ones((3, 4)), np.full((3, 2), np.inf), "6 scores"),
        (np.ones((3, 5)), np.ones((3, 2)), r"\(3, 5\)"),
        (np.ones((3, 4)), np.ones((2, 2)), r"\(2, 2\)"),
    ],
)
def test_bad_outputs_are_named(boxes, scores, message):
    with pytest.raises(ValueError, match=message):
        select(boxes, scores, SSD.rule)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SelectionRule(1.5, 0.5, None), "score_threshold=1.5"),
        (lambda: SelectionRule(0.5, 0.5, None, of_each="image"), "of_each='image'"),
        (lambda: select(np.ones((3, 4)), np.ones((3, 2)), RETINANET.rule, (1, 1)), r"\(1, 1\)"),
    ],
)
def test_impossible_rules_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
