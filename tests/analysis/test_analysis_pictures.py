"""Pictures: PNG files at 2x, what they hold, and what is refused."""

import struct

import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.analysis.attention import AttentionMap


def softmax(x, axes):
    x = np.exp(x)
    return x / x.sum(axes, keepdims=True)


def make_map(name, part, shape, queries, keys, size, **options):
    weights = np.random.default_rng(0).standard_normal(shape).astype("float32")
    axes = tuple(range(len(shape)))[2 + (2 if queries == "pixels" else 1) :]
    return AttentionMap(name, part, softmax(weights, axes), queries, keys, map_size=size, **options)


@pytest.fixture
def bridge():
    """Two blocks and the last Mobile->Former, of three tokens and two heads."""
    maps = []
    for block, size in (("stage2_block0", (8, 8)), ("stage3_block0", (4, 4)), ("final", (2, 2))):
        name = f"{block}_mobile_to_former_attention"
        maps.append(make_map(name, "Mobile->Former", (2, 2, 3, *size), "tokens", "pixels", size))
        if block != "final":
            name = f"{block}_former_to_mobile_attention"
            maps.append(
                make_map(name, "Mobile<-Former", (2, 2, *size, 3), "pixels", "tokens", size)
            )
    return maps


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (32, 32, 3))


def png_size(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return struct.unpack(">II", data[16:24])


def overlays(figure):
    """The maps drawn over the image, panel by panel: what is above a panel's first picture."""
    return [np.asarray(axes.images[1].get_array()) for axes in figure.axes if len(axes.images) > 1]


@pytest.mark.large
def test_the_bridge_is_drawn_block_by_head_by_token(bridge, image, tmp_path):
    path = tmp_path / "new" / "bridge.png"
    figure = keras_hybrid.plot_attention(bridge, image, path, index=1)
    width, height = figure.get_size_inches()
    assert png_size(path) == (round(200 * width), round(200 * height))
    drawn = overlays(figure)
    # Three tokens of two heads: three blocks over pixels, two of them over tokens, too.
    assert len(drawn) == 3 * 2 * 3 + 2 * 2 * 3
    to_former, to_mobile = bridge[0].weights[1], bridge[1].weights[1]
    for head in range(2):
        for token in range(3):
            np.testing.assert_array_equal(drawn[6 * head + token], to_former[head, token])
            right = drawn[6 * head + 3 + token]
            np.testing.assert_array_equal(right, to_mobile[head, ..., token])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles.count("token 3") == 2
    labels = " ".join(axes.get_ylabel() for axes in figure.axes)
    assert "stage3\nblock0\n4 x 4\nhead 2" in labels
    maps = {axes.images[1].get_cmap().name for axes in figure.axes if len(axes.images) > 1}
    assert maps == {"viridis"}
    some = keras_hybrid.plot_attention(bridge, image, blocks=["stage3_block0"])
    assert len(overlays(some)) == 2 * 2 * 3


def test_one_token_over_all_blocks_and_all_tokens_of_a_block(bridge, image):
    figure = keras_hybrid.plot_attention(bridge, image, view="token", token=2)
    drawn = overlays(figure)
    assert len(drawn) == 2 * 3
    np.testing.assert_array_equal(drawn[1], bridge[2].weights[0, 0, 2])
    figure = keras_hybrid.plot_attention(
        bridge, image[..., 0], view="pixels", blocks=["stage2_block0"]
    )
    drawn = overlays(figure)
    assert len(drawn) == 2 * 3
    np.testing.assert_array_equal(drawn[4], bridge[1].weights[0, 1, ..., 1])
    scales = [axes.images[1].get_clim() for axes in figure.axes if len(axes.images) > 1]
    assert scales[0] == scales[2] == (0, 1)  # so that an even third looks like one


def test_where_a_pixel_looks_is_put_back_into_the_image(image):
    patches = make_map(
        "stage3_block1_transformer0_attention",
        "attention blocks",
        (1, 2, 6, 8, 3, 4),
        "pixels",
        "pixels",
        (5, 8),
        patch_size=2,
    )
    windows = make_map(
        "stage4_block0_attention",
        "attention blocks",
        (1, 1, 6, 6, 3, 3),
        "pixels",
        "pixels",
        (5, 4),
        window_size=3,
    )
    figure = keras_hybrid.plot_attention([patches, windows], image, pixel=(0.5, 1.0))
    drawn = overlays(figure)
    assert len(drawn) == 3
    np.testing.assert_array_equal(drawn[1], patches.seen_from(3, 7)[1])
    np.testing.assert_array_equal(drawn[2], windows.seen_from(2, 3)[0, :5, :4])


def test_impossible_views_are_refused(bridge, image):
    with pytest.raises(ValueError, match='for the view "from_pixel"'):
        keras_hybrid.plot_attention(bridge, image, view="from_pixel")
    with pytest.raises(ValueError, match="view='tokens'"):
        keras_hybrid.plot_attention(bridge, image, view="tokens")
    with pytest.raises(ValueError, match="unknown"):
        keras_hybrid.plot_attention(bridge, image, blocks=["stage9_block0"])
    with pytest.raises(ValueError, match="index=2"):
        keras_hybrid.plot_attention(bridge, image, index=2)
    with pytest.raises(ValueError, match="token=3"):
        keras_hybrid.plot_attention(bridge, image, view="token", token=3)
    with pytest.raises(ValueError, match="image of shape"):
        keras_hybrid.plot_attention(bridge, image[None])


@pytest.mark.large
def test_cost_and_similarity_of_heads_are_drawn(tmp_path):
    model = keras_hybrid.MobileFormer26M(weights=None, input_shape=(64, 64, 3))
    summary = keras_hybrid.summarize_cost(model)
    figure = summary.plot(tmp_path / "cost.png")
    assert min(png_size(tmp_path / "cost.png")) > 800
    first = figure.axes[0]
    assert [text.get_text() for text in first.get_yticklabels()] == [
        cost.name for cost in summary.by_part
    ]
    widths = [bar.get_width() for bar in first.patches]
    assert sum(widths) == pytest.approx(200)  # two measures of 100 % each

    found = keras_hybrid.head_similarity(model, np.zeros((2, 64, 64, 3), "float32"))
    figure = keras_hybrid.plot_head_similarity(found, tmp_path / "heads.png")
    assert min(png_size(tmp_path / "heads.png")) > 600
    points = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    assert len(points) == 3 * len(found) and {result.mean for result in found} <= set(points)
