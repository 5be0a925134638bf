"""Mask R-CNN on other backbones: its objects in images, pictures, average precision of masks."""

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.tasks.detection.objects import padded
from keras_hybrid.tasks.instances.detect import find_instances
from keras_hybrid.tasks.instances.mask_pasting import paste_masks
from keras_hybrid.tasks.instances.parts import is_mask_rcnn, parts_of
from keras_hybrid.weights.family import Preprocessing

PLAIN = Preprocessing(64, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
SMALL = {"channels": 8, "box_units": 16, "mask_convolutions": 1, "max_proposals": 30}


def small_backbone(shape=(64, 96, 3)):
    x = image = keras.Input(shape, name="image")
    for index in range(5):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name=f"down{index}")(x)
    return keras.Model(image, x, name="small")


def small_mask_rcnn(shape=(64, 96, 3), **options):
    """One whose heads say something: fresh ones hold every score under the threshold."""
    model = keras_hybrid.mask_rcnn(small_backbone(shape), 3, **{**SMALL, **options})
    random = np.random.default_rng(0)
    for name in ("head_box_logits", "head_box_offsets", "head_mask_logits"):
        layer = model.get_layer(name)
        layer.kernel.assign(random.normal(0, 0.3, layer.kernel.shape))
    model.get_layer("head_rpn_conv").kernel.assign(random.normal(0, 0.05, (3, 3, 8, 8)))
    return model


@pytest.fixture(scope="module")
def network():
    return small_mask_rcnn()


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (*size, 3)).astype("uint8") for size in ((64, 96), (40, 90))]


def test_the_graph_alone_is_the_published_way(network, pictures):
    """For pictures as large as the input: one call of the model, or part by part on the host."""
    image = pictures[0][None].astype("float32") / 255
    found = {kind: np.asarray(x) for kind, x in network(image, training=False).items()}
    parts = find_instances(parts_of(network), image, [[64, 96]])
    count = parts["scores"].shape[1]
    assert 10 < count <= 100 and not found["scores"][:, count:].any()
    assert (found["labels"][:, count:] == -1).all() and not found["masks"][:, count:].any()
    for kind, expected in parts.items():
        np.testing.assert_allclose(found[kind][:, :count], expected, atol=1e-4, err_msg=kind)


def test_objects_are_in_the_images_own_pixels(network, pictures, tmp_path):
    found = keras_hybrid.detect(network, pictures, preprocessing=PLAIN)
    for image, one in zip(pictures, found, strict=True):
        height, width, _ = image.shape
        assert len(one) and (np.diff(one.scores) <= 0).all() and one.scores.min() > 0.05
        assert (one.boxes >= 0).all() and (one.boxes <= [width, height] * 2).all()
        assert one.masks.shape == (len(one), height, width) and one.masks.any()
        for mask, (x1, y1, x2, y2) in zip(one.masks, one.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            if len(rows):
                assert x1 - 0.5 <= columns.min() + 0.5 and columns.max() + 0.5 <= x2 + 0.5
                assert y1 - 0.5 <= rows.min() + 0.5 and rows.max() + 0.5 <= y2 + 0.5
    alone = keras_hybrid.detect(network, pictures[1], preprocessing=PLAIN)
    np.testing.assert_allclose(alone.boxes, found[1].boxes, atol=1e-3)
    sure = keras_hybrid.detect(network, pictures, preprocessing=PLAIN, score_threshold=0.5)
    assert all(len(few) == (all_.scores > 0.5).sum() for few, all_ in zip(sure, found, strict=True))
    none = keras_hybrid.detect(network, pictures[0], preprocessing=PLAIN, score_threshold=1.0)
    assert len(none) == 0 and none.masks.shape == (0, 64, 96) and none.boxes.shape == (0, 4)
    path = tmp_path / "found.png"
    figure = keras_hybrid.plot_detections(pictures, found, path, score_threshold=0.2)
    shown = found[0].scores >= 0.2
    assert len(figure.axes[0].images) == 1 + shown.sum() and path.exists()


@pytest.mark.large
def test_any_size_saved_and_found_again(pictures, tmp_path, fresh_process):
    model = small_mask_rcnn((None, None, 3))
    assert is_mask_rcnn(model) and not is_mask_rcnn(small_backbone())
    image = pictures[1][None, :, :64].astype("float32") / 255
    expected = [np.asarray(x) for x in keras.tree.flatten(model(image, training=False))]
    model.save(tmp_path / "model.keras")
    for one, other in zip(
        fresh_process.run(tmp_path / "model.keras", [image]), expected, strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-3)
    small = np.ascontiguousarray(pictures[1][::2, ::3])  # the network sees 1216 x 800 px
    found = keras_hybrid.detect(model, small, preprocessing=PLAIN)
    assert len(found) and found.masks.shape[1:] == (20, 30)


def test_masks_are_pasted_where_boxes_are():
    masks = np.ones((4, 28, 28), "float32")
    boxes = [[2, 3, 12, 9], [-5, -5, 4, 4], [7, 7, 7, 9], [1.4, 1.4, 3.6, 3.6]]
    pasted = paste_masks(masks, boxes, 10, 14)
    expected = np.zeros((4, 10, 14), bool)
    expected[0, 3:9, 2:12] = True
    expected[1, :4, :4] = True
    expected[3, 1:4, 1:4] = True  # pixels whose centers are in the box
    np.testing.assert_array_equal(pasted, expected)
    left = np.zeros((1, 28, 28), "float32")
    left[:, :, :14] = 1
    assert paste_masks(left, [[0, 0, 8, 8]], 8, 8)[0].sum(0).tolist() == [8] * 4 + [0] * 4


def test_average_precision_of_masks():
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 2:10, 2:10] = masks[1, 5:15, 12:18] = True
    boxes = [[2, 2, 10, 10], [12, 5, 18, 15]]
    objects = keras_hybrid.Objects(boxes, [0, 1], masks=masks)
    assert objects.areas.tolist() == [64, 60]
    assert objects.trainable().masks.shape == (2, 20, 20)
    nothing = keras_hybrid.Objects(np.zeros((0, 4)), [])
    none = keras_hybrid.Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))

    def precision(found, of):
        one = keras_hybrid.Detections(np.array(boxes, "float32"), np.ones(2), [0, 1], found)
        one = keras_hybrid.Detections(one.boxes, one.scores, np.array([0, 1]), found)
        return keras_hybrid.average_precision([one, none], [objects, nothing], 2, of=of)

    assert precision(masks, "masks").ap == pytest.approx(1)
    half = masks.copy()
    half[0, :6] = False  # boxes are right, one mask is half of it
    assert precision(half, "boxes").ap == pytest.approx(1)
    assert precision(half, "masks").by_class == pytest.approx([0.1, 1])
    with pytest.raises(ValueError, match="image 0 with masks"):
        precision(None, "masks")
    with pytest.raises(ValueError, match="of='mask'"):
        precision(masks, "mask")


def test_masks_of_objects_are_padded():
    one = keras_hybrid.Objects([[0, 0, 2, 2], [1, 1, 1, 3]], [1, 0], masks=np.ones((2, 4, 6)))
    both = padded([one, keras_hybrid.Objects(np.zeros((0, 4)), [], masks=np.zeros((0, 4, 6)))], 3)
    assert both["masks"].shape == (2, 3, 4, 6) and both["masks"].dtype == np.uint8
    assert both["masks"].sum() == 24 and both["labels"].tolist() == [[1, -1, -1], [-1] * 3]
    plain = keras_hybrid.Objects([[0, 0, 2, 2]], [1])
    assert set(padded([one, plain])) == {"boxes", "labels"}
    other = keras_hybrid.Objects([[0, 0, 2, 2]], [1], masks=np.ones((1, 5, 6)))
    with pytest.raises(ValueError, match="one size"):
        padded([one, other])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: keras_hybrid.mask_rcnn(small_backbone(), 0), "classes=0"),
        (lambda: keras_hybrid.mask_rcnn(small_backbone(), 2, channels=0), "channels=0"),
        (lambda: keras_hybrid.mask_rcnn(small_backbone(), 2, max_proposals=2.5), "2.5"),
        (lambda: keras_hybrid.MaskRCNNIFormerM(weights="imagenet"), r"\['coco'\]"),
        (lambda: parts_of(small_backbone()), "Mask R-CNN of this package"),
        (lambda: keras_hybrid.Objects([[0, 0, 1, 1]], [0], masks=np.ones((2, 3, 3))), "2 masks"),
        (lambda: keras_hybrid.Objects([[0, 0, 1, 1]], [0], masks=np.ones((1, 3))), "masks"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_not_finite_and_other_rules_are_named(network, pictures):
    rule = keras_hybrid.tasks.detection.systems.RETINANET.rule
    with pytest.raises(ValueError, match="its own rule"):
        keras_hybrid.detect(network, pictures[0], preprocessing=PLAIN, rule=rule)
    broken = keras.models.clone_model(network)
    layer = broken.get_layer("head_rpn_logits")
    layer.bias.assign(np.full(3, np.nan))
    with pytest.raises(ValueError, match="not finite"):
        keras_hybrid.detect(broken, pictures[0], preprocessing=PLAIN)
