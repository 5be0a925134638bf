"""Every layer of the package against a plain NumPy reference, and through the harness."""

import keras
import numpy as np
import pytest
from harness import assert_close, check_layer

from keras_hybrid import layers


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def check(tmp_path, fresh_process):
    def run(layer, inputs, *, tolerance=1e-5, **options):
        return check_layer(
            layer,
            inputs,
            tolerance=tolerance,
            tmp_path=tmp_path,
            fresh_process=fresh_process,
            **options,
        )

    return run


def normal(random, *shape):
    return random.standard_normal(shape).astype("float32")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention_reference(query, key, value, num_heads):
    """One image: (N, C), (M, C), (M, D) -> (N, D), head by head."""
    width, value_width = query.shape[-1] // num_heads, value.shape[-1] // num_heads
    heads = []
    for head in range(num_heads):
        q, k = (x[:, head * width : (head + 1) * width] for x in (query, key))
        v = value[:, head * value_width : (head + 1) * value_width]
        heads.append(softmax(q @ k.T * width**-0.5) @ v)
    return np.concatenate(heads, axis=-1)


@pytest.mark.large
@pytest.mark.parametrize("num_heads", [1, 2, 4])
@pytest.mark.parametrize("kind", ["tokens", "tokens over map", "map over tokens", "map"])
def test_attention_is_scaled_dot_product_attention(random, check, num_heads, kind):
    tokens, other = normal(random, 2, 3, 8), normal(random, 2, 3, 16)
    features = normal(random, 2, 4, 5, 8)
    query, key, value = {
        "tokens": (tokens, tokens, other),
        "tokens over map": (tokens, features, features),
        "map over tokens": (features, tokens, other),
        "map": (features, features, features),
    }[kind]
    (output,) = check(layers.DotProductAttention(num_heads), [query, key, value])
    flat = [x.reshape(2, -1, x.shape[-1]) for x in (query, key, value)]
    expected = [attention_reference(*(x[image] for x in flat), num_heads) for image in range(2)]
    expected = np.stack(expected).reshape(*query.shape[:-1], value.shape[-1])
    assert_close([output], [expected], 1e-5)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_attention_keeps_positions_apart(random, check, num_heads):
    query, key, value = (normal(random, 2, 6, 4, 8) for _ in range(3))
    layer = layers.DotProductAttention(num_heads, separate_positions=True)
    (output,) = check(layer, [query, key, value])
    for image in range(2):
        for position in range(4):
            parts = (x[image, :, position] for x in (query, key, value))
            expected = attention_reference(*parts, num_heads)
            assert_close([output[image, :, position]], [expected], 1e-5)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_attention_stays_inside_windows(random, check, num_heads):
    query, key, value = (normal(random, 2, 6, 9, 8) for _ in range(3))
    (output,) = check(layers.DotProductAttention(num_heads, window_size=3), [query, key, value])
    for row in range(0, 6, 3):
        for column in range(0, 9, 3):
            window = (1, slice(row, row + 3), slice(column, column + 3))
            parts = (x[window].reshape(9, 8) for x in (query, key, value))
            expected = attention_reference(*parts, num_heads).reshape(3, 3, 8)
            assert_close([output[window]], [expected], 1e-5)


@pytest.mark.parametrize("height, width", [(6, 9), (5, 7)])
def test_windows_are_cut_row_by_row_and_glued(random, check, height, width):
    x = normal(random, 2, height, width, 4)
    (windows,) = check(layers.CutWindows(3), x)
    padded = np.zeros((2, 6, 9, 4), "float32")
    padded[:, :height, :width] = x
    expected = [
        padded[image, row : row + 3, column : column + 3]
        for image in range(2)
        for row in (0, 3)
        for column in (0, 3, 6)
    ]
    assert_close([windows], [np.stack(expected)], 0)
    glued = layers.GlueWindows(3)([windows, x])
    assert_close([keras.ops.convert_to_numpy(glued)], [x], 0)


def test_maps_are_resized_as_pytorch_does(random, check):
    x, reference = normal(random, 1, 2, 3, 1), normal(random, 1, 5, 6, 2)
    (nearest,) = check(layers.ResizeToReference("nearest"), [x, reference])
    # Pixel i of 5 is pixel floor(i * 2 / 5) of 2: not the nearest center.
    assert_close([nearest], [x[:, [0, 0, 0, 1, 1]][:, :, [0, 0, 1, 1, 2, 2]]], 0)
    (aligned,) = check(layers.ResizeToReference("bilinear_aligned"), [x, reference])
    corners = np.ix_([0], [0, -1], [0, -1], [0])
    assert_close([aligned[corners]], [x[corners]], 1e-6)
    assert_close([aligned[:, 2, 0]], [x[:, :, 0].mean(1)], 1e-6)
    (bilinear,) = check(layers.ResizeToReference("bilinear"), [x[:, :1, :1], reference])
    assert_close([bilinear], [np.broadcast_to(x[:, :1, :1], (1, 5, 6, 1))], 1e-6)
    with pytest.raises(ValueError, match="interpolation='cubic'"):
        layers.ResizeToReference("cubic")


def test_attention_weights_sum_to_one_and_follow_the_scale(random):
    query, key = normal(random, 2, 3, 8), normal(random, 2, 5, 8)
    layer = layers.DotProductAttention(2, scale=0.7)
    layer.build([query.shape, key.shape, key.shape])
    weights = keras.ops.convert_to_numpy(layer.attention_weights(query, key))
    assert weights.shape == (2, 2, 3, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    expected = softmax(query[0, :, 4:] @ key[0, :, 4:].T * 0.7)
    np.testing.assert_allclose(weights[0, 1], expected, atol=1e-6)


def test_attention_in_half_precision_survives_large_scores(random):
    x = (50 * normal(random, 1, 64, 32)).astype("float16")
    output = layers.DotProductAttention(1, dtype="float16")([x, x, x])
    assert np.isfinite(keras.ops.convert_to_numpy(output)).all()


def test_attention_refuses_what_does_not_fit():
    tokens, features = np.zeros((1, 3, 8), "float32"), np.zeros((1, 4, 5, 8), "float32")
    with pytest.raises(ValueError, match="num_heads=3"):
        layers.DotProductAttention(3)([tokens, tokens, tokens])
    with pytest.raises(ValueError, match="same channels"):
        layers.DotProductAttention()([tokens, tokens[..., :4], tokens])
    with pytest.raises(ValueError, match="whole windows"):
        layers.DotProductAttention(window_size=3)([features] * 3)
    with pytest.raises(ValueError, match="exclude each other"):
        layers.DotProductAttention(separate_positions=True, window_size=2)
    with pytest.raises(ValueError, match="num_heads=0"):
        layers.DotProductAttention(0)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_convolution_convolves_each_group_apart(random, check, groups, kernel_size):
    x = normal(random, 2, 5, 6, 8)
    layer = layers.GroupedConv2D(12, kernel_size, groups=groups, padding="same")
    (output,) = check(layer, x)
    stock = keras.layers.Conv2D(12 // groups, kernel_size, padding="same")
    stock.build((None, 5, 6, 8 // groups))
    kernel, bias = layer.get_weights()
    assert kernel.shape == (kernel_size, kernel_size, 8 // groups, 12)
    for group in range(groups):
        into, out = (slice(group * n // groups, (group + 1) * n // groups) for n in (8, 12))
        stock.set_weights([kernel[..., out], bias[out]])
        expected = keras.ops.convert_to_numpy(stock(x[..., into]))
        assert_close([output[..., out]], [expected], 1e-5)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_channel_shuffle_moves_channel_g_i_to_i_g(random, check, groups):
    x = normal(random, 2, 3, 4, 6)
    (output,) = check(layers.ChannelShuffle(groups), x, tolerance=0)
    for group in range(groups):
        for index in range(6 // groups):
            moved = output[..., index * groups + group]
            np.testing.assert_array_equal(moved, x[..., group * (6 // groups) + index])


def test_channel_shuffle_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="groups=4"):
        layers.ChannelShuffle(4)(np.zeros((1, 2, 2, 6), "float32"))
    with pytest.raises(ValueError, match="groups=0"):
        layers.ChannelShuffle(0)


def test_dynamic_relu_is_the_maximum_of_two_lines(random, check):
    x, coefficients = normal(random, 2, 3, 4, 5), 4 * normal(random, 2, 10)
    (output,) = check(layers.DynamicReLU(), [x, coefficients])
    a = np.clip(coefficients + 3, 0, 6) / 6
    slopes = (a[:, None, None, :5] - 0.5) * 2 + 1, (a[:, None, None, 5:] - 0.5) * 2
    np.testing.assert_allclose(output, np.maximum(x * slopes[0], x * slopes[1]), atol=1e-6)


def test_dynamic_relu_starts_as_relu(random):
    x = normal(random, 2, 3, 4, 5)
    output = layers.DynamicReLU()([x, np.zeros((2, 10), "float32")])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(output), np.maximum(x, 0), atol=1e-6)


def test_dynamic_relu_refuses_another_number_of_coefficients():
    with pytest.raises(ValueError, match="Two coefficients"):
        layers.DynamicReLU()([np.zeros((1, 2, 2, 5), "float32"), np.zeros((1, 5), "float32")])


def test_global_tokens_are_the_same_for_every_image(random, check):
    (output,) = check(layers.GlobalTokens(3, 8), normal(random, 4, 2), gradient=True)
    assert output.shape == (4, 3, 8)
    assert (output == output[:1]).all()
    assert 0.5 < output[0].std() < 1.5, "drawn from a unit normal distribution"


def test_select_token_picks_one(random, check):
    x = normal(random, 2, 3, 8)
    (output,) = check(layers.SelectToken(1), x, tolerance=0)
    np.testing.assert_array_equal(output, x[:, 1])


def test_tokens_refuse_impossible_numbers():
    with pytest.raises(ValueError, match="num_tokens=0"):
        layers.GlobalTokens(0, 8)
    with pytest.raises(ValueError, match="index=3"):
        layers.SelectToken(3)(np.zeros((1, 3, 8), "float32"))


def test_layer_scale_multiplies_channels(random, check):
    x = normal(random, 2, 3, 4, 5)
    (output,) = check(layers.LayerScale(0.25), x)
    np.testing.assert_allclose(output, 0.25 * x, atol=1e-7)


def test_split_channels(random, check):
    x = normal(random, 2, 3, 4, 6)
    outputs = check(layers.SplitChannels(3), x, tolerance=0)
    np.testing.assert_array_equal(np.concatenate(outputs, -1), x)
    with pytest.raises(ValueError, match="parts=4"):
        layers.SplitChannels(4)(x)


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_unfold_gathers_each_position_of_the_patches(random, check, patch_size):
    x = normal(random, 2, 8, 12, 3)
    (output,) = check(layers.UnfoldPatches(patch_size), x, tolerance=0)
    columns = 12 // patch_size
    for row in range(8):
        for column in range(12):
            patch = row // patch_size * columns + column // patch_size
            position = row % patch_size * patch_size + column % patch_size
            np.testing.assert_array_equal(output[:, patch, position], x[:, row, column])


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_fold_undoes_unfold(random, check, patch_size):
    x = normal(random, 2, 8, 12, 3)
    sequences = keras.ops.convert_to_numpy(layers.UnfoldPatches(patch_size)(x))
    (output,) = check(layers.FoldPatches(patch_size), [sequences, x], tolerance=0)
    np.testing.assert_array_equal(output, x)


def test_unfold_and_fold_resize_maps_that_patches_do_not_divide(random, check):
    x = normal(random, 2, 9, 7, 3)
    (sequences,) = check(layers.UnfoldPatches(2), x)
    assert sequences.shape == (2, 5 * 4, 4, 3)
    (output,) = check(layers.FoldPatches(2), [sequences, x])
    assert output.shape == x.shape
    constant = np.ones_like(x)
    folded = layers.FoldPatches(2)([layers.UnfoldPatches(2)(constant), constant])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(folded), 1, atol=1e-6)


def test_patches_without_keras_own_rearrangement_are_the_same(random, monkeypatch):
    x = normal(random, 2, 8, 12, 3)
    unfolded = keras.ops.convert_to_numpy(layers.UnfoldPatches(2)(x))
    monkeypatch.delattr(keras.ops, "space_to_depth", raising=False)
    monkeypatch.delattr(keras.ops, "depth_to_space", raising=False)
    again = layers.UnfoldPatches(2)(x)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again), unfolded)
    folded = layers.FoldPatches(2)([again, x])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(folded), x)


def test_patches_refuse_an_impossible_size():
    with pytest.raises(ValueError, match="patch_size=0"):
        layers.UnfoldPatches(0)
    with pytest.raises(ValueError, match="patch_size=-1"):
        layers.FoldPatches(-1)


def test_pad_to_multiple_and_crop_back(random, check):
    x = normal(random, 2, 5, 8, 3)
    (padded,) = check(layers.PadToMultiple(4), x, tolerance=0)
    assert padded.shape == (2, 8, 8, 3)
    assert (padded[:, 5:] == 0).all()
    (cropped,) = check(layers.CropToReference(), [padded, x], tolerance=0)
    np.testing.assert_array_equal(cropped, x)
    with pytest.raises(ValueError, match="Received: 0"):
        layers.PadToMultiple(0)


def test_drop_path_keeps_the_expectation_and_whole_examples(check, random):
    layer = layers.DropPath(0.25, seed=1)
    check(layer, normal(random, 4, 3))
    x = np.ones((4000, 2, 3), "float32")
    output = keras.ops.convert_to_numpy(layer(x, training=True))
    values = output.reshape(4000, -1)
    assert (values == values[:, :1]).all(), "an example is dropped as a whole"
    assert set(np.unique(values.round(5))) == {0.0, np.float32(1 / 0.75).round(5)}
    assert abs((values[:, 0] == 0).mean() - 0.25) < 0.03
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x, training=False)), x)


def test_drop_path_refuses_impossible_rates():
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"rate={rate}"):
            layers.DropPath(rate)
