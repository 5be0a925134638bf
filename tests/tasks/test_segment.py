"""`segment`: label maps at each image's own size by the published sizes, and their pictures."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_hybrid
from keras_hybrid.layers.resizing import resize
from keras_hybrid.tasks.segmentation import class_tables
from keras_hybrid.tasks.segmentation.protocol import (
    DEEPLABV3,
    DEEPLABV3_LATER,
    PLAIN,
    SEMANTIC_FPN,
    SegmentationProtocol,
    protocol_of,
)
from keras_hybrid.tasks.segmentation.stretching import labels_of
from keras_hybrid.weights.family import Preprocessing

AS_THEY_ARE = Preprocessing(64, 1.0, "bilinear", (0.0, 0.0, 0.0), (1 / 255,) * 3)


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")


@pytest.fixture(scope="module")
def channel_network():
    """Logits at stride 2 that are the image's own channels: labels can be told by hand."""
    image = keras.Input((None, None, 3))
    x = keras.layers.AveragePooling2D(2, padding="same", data_format="channels_last")(image)
    return keras.Model(image, x, name="channels")


@pytest.mark.parametrize(
    "sizes",
    [
        [(20, 31, "bilinear")],
        [(20, 31, "bilinear_aligned")],
        [(64, 64, "bilinear"), (37, 50, "nearest")],
        [(5, 3, "bilinear"), (1, 1, "bilinear")],
        [(70, 90, "bilinear"), (33, 45, "bilinear")],
    ],
)
def test_strips_give_the_labels_of_the_resizes_one_after_the_other(sizes):
    logits = np.random.default_rng(1).normal(size=(7, 9, 5)).astype("float32")
    whole = logits[None]
    for height, width, interpolation in sizes:
        whole = np.asarray(resize(whole, height, width, interpolation))
    found = labels_of(logits, sizes)
    assert found.dtype == np.uint8 and found.shape == whole.shape[1:3]
    assert np.mean(found == whole[0].argmax(-1)) > 0.999


def test_each_image_at_its_own_size(channel_network, tmp_path):
    """Arrays of integers and floats and files, each by itself as in a list."""
    images = [image_of(40, 64), image_of(64, 64).astype("float32"), image_of(33, 70, 2)]
    Image.fromarray(images[2]).save(tmp_path / "picture.png")
    given = [images[0], images[1], str(tmp_path / "picture.png")]
    options = {"preprocessing": AS_THEY_ARE, "protocol": SegmentationProtocol()}
    maps = keras_hybrid.segment(channel_network, given, **options)
    assert [x.shape for x in maps] == [(40, 64), (64, 64), (33, 70)]
    for image, found in zip(images, maps, strict=True):
        x = np.asarray(channel_network(image[None].astype("float32")))
        by_hand = np.asarray(resize(x, *image.shape[:2], "bilinear"))[0].argmax(-1)
        np.testing.assert_array_equal(found, by_hand)
        np.testing.assert_array_equal(
            found, keras_hybrid.segment(channel_network, image, **options)
        )
    batch = keras_hybrid.segment(channel_network, np.stack([images[1]] * 5), **options)
    assert isinstance(batch, np.ndarray) and batch.shape == (5, 64, 64)
    np.testing.assert_array_equal(batch[4], maps[1])


def test_red_pixels_of_a_network_of_bgr_images(channel_network):
    red = np.zeros((8, 8, 3), "uint8")
    red[..., 0] = 200
    protocol = SegmentationProtocol()
    bgr = Preprocessing(64, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3, "BGR")
    for known, label in ((AS_THEY_ARE, 0), (bgr, 2)):
        found = keras_hybrid.segment(channel_network, red, protocol=protocol, preprocessing=known)
        assert (found == label).all()


@pytest.mark.parametrize(
    "protocol, size, expected",
    [
        (DEEPLABV3, (375, 500), (512, 512)),
        (DEEPLABV3_LATER, (375, 500), (512, 680)),  # 682, rounded down to the stride
        (SEMANTIC_FPN, (683, 512), (683, 512)),
        (SEMANTIC_FPN, (1024, 768), (683, 512)),
        (SEMANTIC_FPN, (200, 1600), (256, 2048)),  # the longer side decides
        (PLAIN, (100, 33), (96, 32)),
        (PLAIN, (1, 1), (32, 32)),
    ],
)
def test_sizes_of_the_published_evaluations(protocol, size, expected):
    assert protocol.input_size(*size) == expected


def small_backbone(height=None, width=None):
    """Five convolutions of stride 2."""
    image = x = keras.Input((height, width, 3))
    for _ in range(5):
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(image, x)


def test_protocols_are_told_by_the_head():
    small = {"neck_channels": 8, "head_channels": 8}
    early = keras_hybrid.deeplabv3(small_backbone(), 2, aspp_channels=8)
    later = keras_hybrid.deeplabv3(small_backbone(), 2, aspp_channels=8, rates=(12, 24, 36))
    assert protocol_of(early) == DEEPLABV3 and protocol_of(later) == DEEPLABV3_LATER
    assert protocol_of(keras_hybrid.semantic_fpn(small_backbone(), 2, **small)) == SEMANTIC_FPN
    fixed = protocol_of(keras_hybrid.deeplabv3(small_backbone(64, 96), 2, aspp_channels=8))
    assert fixed.input_size(300, 200) == (64, 96) and fixed.stretches == DEEPLABV3.stretches


def test_a_network_by_hand():
    """Semantic FPN on an image of an odd size: two resizes of the logits, then the best class."""
    model = keras_hybrid.semantic_fpn(small_backbone(), 5, neck_channels=16, head_channels=8)
    protocol = SegmentationProtocol("inside", (64, 128), False, 1, SEMANTIC_FPN.stretches)
    image = image_of(150, 99)
    found = keras_hybrid.segment(model, image, protocol=protocol, preprocessing="iformer")
    x = keras.ops.image.resize(image[None].astype("float32"), (97, 64), "bilinear")
    logits = model(keras_hybrid.preprocess_input(x, "iformer"), training=False)
    logits = resize(resize(logits, 97, 64, "bilinear"), 150, 99, "bilinear")
    assert np.mean(found == np.asarray(logits)[0].argmax(-1)) > 0.999


def test_the_class_tables():
    voc, ade = class_tables.voc_table(), class_tables.ade20k_table()
    assert voc.colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert voc.colors[20] == (0, 64, 128) and voc.names[15] == "person"
    assert len(voc.names) == len(voc.colors) == 21
    assert (len(ade.names), ade.names[12], ade.colors[12]) == (150, "person", (150, 5, 61))
    assert class_tables.table_of("ADE20K") is ade


def test_few_colors_are_told_apart_without_red_or_green_cones():
    """Viénot's simulation of both, in linear light: no two of eight colors come close."""
    colors = np.array(class_tables.palette(8, background=True)) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    views = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    for name, matrix in views.items():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert apart[~np.eye(8, dtype=bool)].min() > 0.1, name
    many = class_tables.palette(150)
    assert len(set(many)) == 150


def test_pictures_of_masks(tmp_path):
    mask = np.zeros((10, 12), "uint8")
    mask[2:5], mask[9] = 15, 255
    voc = class_tables.voc_table()
    picture = class_tables.color_mask(mask, voc.colors)
    assert picture[3, 0].tolist() == [192, 128, 128] and picture[9, 0].tolist() == [255] * 3
    path = tmp_path / "picture.png"
    figure = keras_hybrid.plot_segmentation(image_of(10, 12), mask, path, classes=voc)
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert legend == ["background  60%", "person  30%"]
    assert Image.open(path).size[0] > 500
    both = keras_hybrid.plot_segmentation([image_of(10, 12), image_of(6, 5)], [mask, mask[:6, :5]])
    assert len(both.axes) == 4


def one_class():
    image = keras.Input((64, 64, 3))
    return keras.Model(image, keras.layers.Conv2D(1, 1)(image))


def no_map():
    image = keras.Input((64, 64, 3))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((8, 8)), "shape (8, 8)"),
        (np.zeros((8, 8, 4)), "shape (8, 8, 4)"),
        (np.zeros((0, 8, 3)), "shape (0, 8, 3)"),
        (np.full((8, 8, 3), 0.5, "float32"), "multiply them by 255"),
        (np.full((8, 8, 3), -1.0), "not preprocessed"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.full((8, 8, 3), "a"), "numbers"),
        ([], "Received: none"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_bad_images_are_named(images, message, channel_network):
    with pytest.raises(ValueError) as raised:
        keras_hybrid.segment(channel_network, images, preprocessing=AS_THEY_ARE)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda image: keras_hybrid.segment(one_class(), image), "classes=1"),
        (lambda image: keras_hybrid.segment(no_map(), image), "(batch, h, w, classes)"),
        (lambda image: keras_hybrid.segment(no_map(), image, batch_size=0), "classes"),
        (lambda _: SegmentationProtocol("crop"), "fit='crop'"),
        (lambda _: SegmentationProtocol(stretches=(("input", "bilinear"),)), "'image'"),
        (lambda _: SegmentationProtocol(stretches=(("image", "cubic"),)), "cubic"),
        (lambda _: class_tables.color_mask(np.full((2, 2), 9), [(0, 0, 0)]), "labels [9]"),
        (lambda _: class_tables.color_mask(np.zeros((2, 2))), "float64"),
        (lambda _: class_tables.palette(0), "classes=0"),
        (lambda x: keras_hybrid.plot_segmentation(x, np.zeros((3, 3), int)), "(3, 3)"),
        (
            lambda x: keras_hybrid.plot_segmentation(x, np.zeros((8, 8), int), opacity=2),
            "opacity=2",
        ),
    ],
)
def test_other_bad_input_is_named(call, message):
    with pytest.raises(ValueError) as raised:
        call(image_of(8, 8))
    assert message in str(raised.value)
