"""RoIAlign against sample by sample, its gradient, and the layers around it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness import check_layer

from keras_hybrid.tasks.instances.host_align import align_on_host, is_on_cpu
from keras_hybrid.tasks.instances.instance_detections import (
    FoldRegions,
    InstanceDetections,
    MaskOfLabel,
)
from keras_hybrid.tasks.instances.region_proposals import ImageSize, RegionProposals
from keras_hybrid.tasks.instances.roi_align import RoIAlign, bin_weights, levels_of
from keras_hybrid.tasks.instances.suppression import not_suppressed


def sampled(x, place):
    """A map (H, W, C) at row and column `place`, as RoIAlign reads it."""
    for position, size in zip(place, x.shape, strict=False):
        if position < -1 or position > size:
            return 0.0
    (top, low), (left, right) = (
        (int(p), p - int(p)) if p < size - 1 else (size - 1, 0.0)
        for p, size in zip(np.maximum(place, 0), x.shape, strict=False)
    )
    bottom, end = min(top + 1, x.shape[0] - 1), min(left + 1, x.shape[1] - 1)
    upper = x[top, left] * (1 - right) + x[top, end] * right
    return upper * (1 - low) + (x[bottom, left] * (1 - right) + x[bottom, end] * right) * low


def reference(x, box, bins, stride):
    """RoIAlign of one box, sample by sample."""
    x1, y1, x2, y2 = np.asarray(box, "float64") / stride - 0.5
    height, width = (y2 - y1) / bins, (x2 - x1) / bins
    rows, columns = int(np.ceil(height)), int(np.ceil(width))
    out = np.zeros((bins, bins, x.shape[-1]))
    if min(height, width) <= 0:
        return out
    for i in range(bins):
        for j in range(bins):
            for r in range(rows):
                for c in range(columns):
                    y = y1 + (i + (r + 0.5) / rows) * height
                    out[i, j] += sampled(x, (y, x1 + (j + (c + 0.5) / columns) * width))
    return out / (rows * columns)


def random_boxes(random, count):
    """Inside, across the edges, quite outside, without area, turned over, and beyond the map."""
    boxes = random.uniform(-20, 70, (count, 2, 2))
    boxes = np.concatenate([boxes.min(1), boxes.max(1)], axis=1)
    special = [
        [5, 5, 5, 40],
        [9, 9, 9, 9],
        [30, 30, 10, 50],
        [-200, -200, -100, -120],
        [400, 10, 600, 20],
        [-300, -100, 500, 400],
        [0, 0, 48, 36],
        [-3, 0, 51, 39],
    ]
    return np.concatenate([boxes, special]).astype("float32")


@pytest.mark.parametrize("bins, stride", [(1, 1), (3, 4), (7, 2)])
def test_any_box_sample_by_sample(bins, stride):
    random = np.random.default_rng(bins)
    x = random.standard_normal((9, 12, 2)).astype("float32")
    boxes = random_boxes(random, 40)
    found = RoIAlign(bins, (stride,))([x[None], boxes[None]])[0]
    for box, one in zip(boxes, np.asarray(found), strict=True):
        np.testing.assert_allclose(one, reference(x, box, bins, stride), atol=1e-5)


def test_pieces_are_the_whole(monkeypatch):
    random = np.random.default_rng(0)
    maps = [random.standard_normal((2, 24 // s, 32 // s, 3)).astype("float32") for s in (1, 2)]
    boxes = np.stack([random_boxes(random, 20)] * 2) * 4
    layer = RoIAlign(2, (4, 8))
    whole = np.asarray(layer([*maps, boxes]))
    monkeypatch.setattr("keras_hybrid.tasks.instances.roi_align._LARGEST_PRODUCT", 500)
    np.testing.assert_array_equal(layer([*maps, boxes]), whole)


def test_windows_of_own_levels_give_what_the_layer_gives():
    random = np.random.default_rng(0)
    maps = [random.standard_normal((2, 40 // s, 52 // s, 3)).astype("float32") for s in (1, 2, 4)]
    boxes = np.stack([random_boxes(random, 40), random_boxes(random, 40)]) * 4
    layer = RoIAlign(7, (4, 8, 16))
    expected = np.asarray(layer([*maps, boxes]))
    levels = np.asarray(levels_of(boxes, 3))
    assert set(levels.ravel().tolist()) == {0, 1, 2}
    found = np.asarray(align_on_host(layer, [*maps, boxes]))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert is_on_cpu(maps[0])
    none = align_on_host(layer, [*maps, boxes[:, :0]])
    assert none.shape == (2, 0, 7, 7, 3)


def test_gradient_by_finite_differences():
    random = np.random.default_rng(0)
    x = random.standard_normal((1, 5, 6, 2))
    boxes = random_boxes(random, 6)[None] / 2
    weights = random.standard_normal((1, boxes.shape[1], 3, 3, 2)).astype("float32")
    layer = RoIAlign(3, (2,))

    def total(x):
        return tf.reduce_sum(layer([tf.cast(x, "float32"), boxes]) * weights)

    with tf.GradientTape() as tape:
        variable, box = tf.constant(x, "float32"), tf.constant(boxes)
        tape.watch([variable, box])
        gradient = tape.gradient(tf.reduce_sum(layer([variable, box]) * weights), [variable, box])
    assert gradient[1] is None  # boxes are taken as they are
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 0.5  # linear in the map: any step is exact
        difference = total(x + step) - total(x - step)
        assert float(gradient[0][place]) == pytest.approx(float(difference), abs=1e-4)


def test_rows_sum_to_one_inside_and_to_nothing_outside():
    weights = np.asarray(
        bin_weights(np.array([0.0, 100.0], "float32"), np.array([9.0, 110.0], "float32"), 4, 10)
    )
    np.testing.assert_allclose(weights[0].sum(-1), 1, atol=1e-6)
    assert not weights[1].any()


def greedy(boxes, threshold, labels):
    """Non-maximum suppression one by one."""
    kept = []
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        for j in kept:
            a1, b1, a2, b2 = boxes[j]
            common = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - common
            if labels[i] == labels[j] and common > threshold * union:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_suppression_is_greedy(threshold):
    random = np.random.default_rng(int(threshold * 10))
    start = random.uniform(0, 20, (2, 150, 2))
    boxes = np.concatenate([start, start + random.uniform(5, 20, (2, 150, 2))], -1)
    boxes = boxes.astype("float32")
    labels = random.integers(0, 2, (2, 150))
    valid = random.uniform(size=(2, 150)) < 0.9
    for of, given in ((labels, labels), (np.zeros_like(labels), None)):
        stays = np.asarray(not_suppressed(boxes, valid, threshold, given))
        for image in range(2):
            places = np.flatnonzero(valid[image])
            kept = greedy(boxes[image][places], threshold, of[image][places])
            assert 2 < len(kept) < len(places)
            np.testing.assert_array_equal(np.flatnonzero(stays[image]), places[kept])


def rpn_maps(random, batch=2):
    sizes = [(16 // 2**i or 1, 24 // 2**i or 1) for i in range(5)]
    maps = [random.normal(0, 2, (batch, h, w, 3)) for h, w in sizes]
    maps += [random.normal(0, 0.5, (batch, h, w, 12)) for h, w in sizes]
    sizes = np.tile([[60.0, 90.0]], (batch, 1))
    return [x.astype("float32") for x in (*maps, sizes)]


def test_layers_keep_the_rules(tmp_path, fresh_process):
    random = np.random.default_rng(0)
    options = {"tolerance": 1e-4, "tmp_path": tmp_path, "fresh_process": fresh_process}
    maps = rpn_maps(random)
    boxes, scores = check_layer(
        RegionProposals(20, 30, 0.5, name="regions"), maps, gradient=False, **options
    )
    assert (np.diff(scores) <= 0).all() and (scores >= 0).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all() and boxes.max() <= 90
    assert boxes[..., 3].max() <= 60

    features = random.standard_normal((2, 16, 24, 3)).astype("float32")
    check_layer(RoIAlign(3, (4,), name="align"), [features, boxes], **options)
    check_layer(ImageSize(name="size"), features, gradient=False, **options)
    regions = random.standard_normal((2, 20, 3, 3, 4)).astype("float32")
    check_layer(FoldRegions(name="fold"), regions, tolerance=0, **dict(list(options.items())[1:]))
    logits = random.normal(0, 2, (2, 20, 4)).astype("float32")
    offsets = random.normal(0, 1, (2, 20, 12)).astype("float32")
    found = check_layer(
        InstanceDetections(7, 0.2, 0.4, name="detections"),
        [boxes, logits, offsets, maps[-1]],
        gradient=False,
        **options,
    )
    labels = found[2]
    assert labels.min() >= 0 and labels.max() <= 2
    masks = random.standard_normal((14, 5, 6, 3)).astype("float32")
    labels[1, 3] = -1
    (own,) = check_layer(MaskOfLabel(name="masks"), [masks, labels], gradient=False, **options)
    expected = 1 / (1 + np.exp(-masks.reshape(2, 7, 5, 6, 3)[0, 2, ..., labels[0, 2]]))
    np.testing.assert_allclose(own[0, 2], expected, atol=1e-6)
    assert not own[1, 3].any()


def test_no_region_and_no_object():
    maps = rpn_maps(np.random.default_rng(0), 1)
    maps[-1][:] = 0  # every box ends at the edge of nothing
    boxes, scores = RegionProposals(9, 8)(maps)
    assert not np.asarray(boxes).any() and (np.asarray(scores) == -1).all()
    logits, offsets = np.zeros((1, 9, 4), "float32"), np.zeros((1, 9, 12), "float32")
    boxes, scores, labels = InstanceDetections(3)([boxes, logits, offsets, maps[-1]])
    assert not np.asarray(boxes).any() and not np.asarray(scores).any()
    assert (np.asarray(labels) == -1).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RoIAlign(0),
        lambda: RoIAlign(7, ()),
        lambda: RegionProposals(0),
        lambda: RegionProposals(overlap_threshold=1.5),
        lambda: InstanceDetections(limit=0),
        lambda: InstanceDetections(score_threshold=-1),
    ],
)
def test_impossible_numbers_are_named(make):
    with pytest.raises(ValueError, match="Received"):
        make()


def test_half_precision_reads_boxes_in_full():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = RoIAlign(2, (4,))
        x = np.random.default_rng(0).standard_normal((1, 64, 64, 1)).astype("float32")
        boxes = np.array([[[1001.3, 3.0, 1120.7, 90.0]]], "float32") / 5
        np.testing.assert_array_equal(
            layer([x, boxes]), RoIAlign(2, (4,), dtype="float32")([x, boxes])
        )
    finally:
        keras.config.set_dtype_policy("float32")
