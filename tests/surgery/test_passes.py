"""Each pass on a small model: what it computes stays, what it folds goes."""

from collections import Counter

import keras
import numpy as np
import pytest
from keras import layers

import keras_hybrid
from keras_hybrid import layers as own
from keras_hybrid.surgery.dilated_kernels import edit_dilated_kernels
from keras_hybrid.surgery.passes.attention_projections import (
    edit_attention_scales,
    edit_split_projections,
)
from keras_hybrid.surgery.passes.batch_norm import edit_batch_norms
from keras_hybrid.surgery.passes.branches import edit_averaged_heads, edit_pooled_branches
from keras_hybrid.surgery.passes.channel_order import edit_channel_reversals
from keras_hybrid.surgery.passes.channel_shuffle import edit_channel_shuffles
from keras_hybrid.surgery.passes.constant_arithmetic import edit_constant_arithmetic
from keras_hybrid.surgery.passes.constant_tokens import edit_constant_tokens
from keras_hybrid.surgery.passes.depthwise import (
    edit_depth_multipliers,
    edit_large_kernels,
)
from keras_hybrid.surgery.passes.hard_sigmoid import edit_dynamic_relus, edit_gates
from keras_hybrid.surgery.passes.image_scaling import edit_scalings
from keras_hybrid.surgery.passes.layer_norm import edit_layer_norms
from keras_hybrid.surgery.passes.position_encoding import edit_position_encodings
from keras_hybrid.surgery.passes.training_only import edit_regularisers
from keras_hybrid.surgery.pipelines import FOR_FLOAT, edited


def count(model, *classes):
    return sum(isinstance(layer, classes) for layer in model.layers)


def image(size=8, channels=4):
    return keras.Input((size, size, channels))


def model_of(inputs, outputs):
    return keras.Model(inputs, outputs, name="small")


@pytest.mark.parametrize(
    "convolution",
    [
        lambda: layers.Conv2D(6, 3, padding="same", use_bias=False),
        lambda: own.GroupedConv2D(8, 1, groups=4),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False),
        lambda: layers.Dense(5),
    ],
)
def test_batch_norm_goes_into_the_layer_before(check_edit, convolution):
    x = image()
    result = check_edit(
        edit_batch_norms, model_of(x, layers.BatchNormalization()(convolution()(x)))
    )
    assert count(result, layers.BatchNormalization) == 0


def test_batch_norm_and_layer_scale_go_into_the_dense_layers_after(check_edit):
    x = image()
    y = layers.BatchNormalization()(layers.GlobalAveragePooling2D()(x))
    y = own.LayerScale(0.5)(layers.Add()([layers.Dense(3)(y), layers.Dense(3)(y)]))
    y = layers.Dense(2)(y)
    result = check_edit(edit_batch_norms, model_of(x, y))
    assert count(result, layers.BatchNormalization, own.LayerScale) == 0


def test_batch_norm_stays_where_folding_would_change_the_result(check_edit):
    x = image()
    shared = layers.Conv2D(4, 1)(x)
    padded = layers.Conv2D(4, 3, padding="same")(layers.BatchNormalization(name="kept1")(x))
    y = layers.Add()([layers.BatchNormalization(name="kept2")(shared), shared, padded])
    activated = layers.Conv2D(4, 1, activation="relu")(x)
    y = layers.Add()([y, layers.BatchNormalization(name="kept3")(activated)])
    result = check_edit(edit_batch_norms, model_of(x, y))
    assert count(result, layers.BatchNormalization) == 3


def test_of_a_layer_called_twice_the_call_before_a_norm_becomes_one_of_its_own(check_edit):
    x = image()
    dense = layers.Dense(4)
    y = layers.BatchNormalization()(dense(dense(x)))
    result = check_edit(edit_batch_norms, model_of(x, y))
    assert count(result, layers.BatchNormalization) == 0 and count(result, layers.Dense) == 2


def test_regularisers_go(check_edit):
    x = image()
    y = layers.Dropout(0.5)(own.DropPath(0.5)(layers.Dense(3)(x)))
    result = check_edit(edit_regularisers, model_of(x, y))
    assert count(result, layers.Dropout, own.DropPath) == 0


def normalization(**options):
    return layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7], **options)


@pytest.mark.parametrize("padded", [False, True])
def test_the_factors_of_image_scaling_go_into_the_convolutions_after(check_edit, padded):
    x = image(channels=3)
    y = normalization()(layers.Rescaling(1 / 255, offset=0.1)(x))
    y = layers.ZeroPadding2D()(y) if padded else y
    y = layers.Add()([layers.Conv2D(5, 3)(y), layers.Conv2D(5, 3, use_bias=False)(y)])
    result = check_edit(edit_scalings, model_of(x, y))
    assert count(result, layers.Normalization) == 0
    (scaling,) = (layer for layer in result.layers if isinstance(layer, layers.Rescaling))
    assert scaling.scale == 1, "only the offset is left: zeros are padded behind it"


def test_image_scaling_goes_whole_where_nothing_is_padded(check_edit):
    x = image(channels=3)
    y = layers.Dense(4)(normalization(invert=True)(layers.Rescaling([1.0, 2.0, 3.0], 0.5)(x)))
    result = check_edit(edit_scalings, model_of(x, y))
    assert count(result, layers.Normalization, layers.Rescaling) == 0


def test_image_scaling_stays_where_others_see_it(check_edit):
    x = image(channels=3)
    y = normalization()(x)
    y = layers.Concatenate()([layers.Conv2D(5, 1)(y), layers.DepthwiseConv2D(1)(y)])
    result = check_edit(edit_scalings, model_of(x, y))
    assert count(result, layers.Rescaling) == 1


def test_adapted_statistics_are_those_that_are_folded(check_edit):
    x = image(channels=3)
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 8, 8, 3)))
    result = check_edit(edit_scalings, model_of(x, layers.Conv2D(5, 1)(layer(x))))
    assert count(result, layers.Normalization) == 0


@pytest.mark.parametrize("order", [1, -1])
def test_a_depthwise_residual_goes_into_the_kernel(check_edit, order):
    x = image()
    branch = layers.DepthwiseConv2D(3, padding="same")(x)
    result = check_edit(edit_position_encodings, model_of(x, layers.Add()([x, branch][::order])))
    assert count(result, layers.Add) == 0


def test_other_residuals_stay(check_edit):
    x = image()
    y = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)])
    y = layers.Add()([y, layers.Conv2D(4, 3, padding="same")(y)])
    result = check_edit(edit_position_encodings, model_of(x, y))
    assert count(result, layers.Add) == 2


def test_averaged_heads_become_one(check_edit):
    x = image()
    pooled = layers.GlobalAveragePooling2D()(x)
    y = layers.Average()([layers.Dense(3)(pooled), layers.Dense(3)(pooled)])
    result = check_edit(edit_averaged_heads, model_of(x, y))
    assert count(result, layers.Average) == 0 and count(result, layers.Dense) == 1


def pooled_beside(x, *others):
    """The mean over a map, stretched over it again and put beside other maps."""
    pooled = layers.Conv2D(3, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    stretched = own.ResizeToReference("bilinear")([pooled, x])
    return layers.Concatenate()([*others, stretched, x])


def test_a_pooled_branch_is_convolved_before_it_is_stretched(check_edit):
    x = image()
    y = layers.Conv2D(5, 1, name="project")(
        pooled_beside(x, layers.Conv2D(2, 3, padding="same")(x))
    )
    result = check_edit(edit_pooled_branches, model_of(x, layers.ReLU()(y)))
    assert count(result, own.ResizeToReference) == 0 and count(result, layers.Add) == 1
    assert result.get_layer("project_map").kernel.shape == (1, 1, 6, 5)
    assert result.get_layer("project_pixel").kernel.shape == (1, 1, 3, 5)
    alone = layers.Conv2D(5, 1, use_bias=False)(pooled_beside(x))
    result = check_edit(edit_pooled_branches, model_of(x, alone))
    assert count(result, layers.Concatenate) == 0


@pytest.mark.parametrize("kernel_size, is_read_again", [(3, False), (1, True)])
def test_a_pooled_branch_stays_where_its_place_matters(check_edit, kernel_size, is_read_again):
    x = image()
    branches = pooled_beside(x)
    y = layers.Conv2D(7, kernel_size, padding="same")(branches)
    y = layers.Add()([y, branches]) if is_read_again else y
    result = check_edit(edit_pooled_branches, model_of(x, y))
    assert count(result, own.ResizeToReference) == 1


@pytest.mark.parametrize("projected", ["query", "key"])
def test_the_attention_scale_goes_into_a_projection(check_edit, projected):
    x = image()
    query, key = (layers.Dense(4)(x) if projected == name else x for name in ("query", "key"))
    attention = own.DotProductAttention(2, name="attention")
    result = check_edit(edit_attention_scales, model_of(x, attention([query, key, x])))
    assert result.get_layer("attention").scale == 1


def test_a_projection_that_is_split_becomes_two(check_edit):
    x = image()
    y = layers.Activation("sigmoid")(layers.Conv2D(6, 1)(x))
    y = layers.Multiply()(own.SplitChannels(2)(y))
    result = check_edit(edit_split_projections, model_of(x, y))
    assert count(result, own.SplitChannels) == 0 and count(result, layers.Conv2D) == 2


def test_layer_norm_shrinks_in_a_prenorm_stream(check_edit):
    x = image()
    stream = own.UnfoldPatches(2)(layers.Conv2D(6, 1)(x))
    for _ in range(2):
        y = layers.Dense(6)(layers.Dense(9)(layers.LayerNormalization()(stream)))
        stream = layers.Add()([stream, y])
    y = own.FoldPatches(2)([layers.LayerNormalization()(stream), x])
    result = check_edit(edit_layer_norms, model_of(x, layers.Conv2D(3, 1)(y)))
    norms = [item for item in result.layers if isinstance(item, own.LeanLayerNormalization)]
    assert len(norms) == 3
    assert all(norm.zero_mean and not norm.weights for norm in norms)


def test_layer_norm_keeps_its_mean_where_somebody_else_sees_it(check_edit):
    x = image()
    stream = layers.Add()([layers.Dense(4)(x), layers.Dense(4)(x)])
    y = layers.Add()([layers.LayerNormalization()(stream), layers.Activation("relu")(stream)])
    result = check_edit(edit_layer_norms, model_of(x, y))
    (norm,) = (item for item in result.layers if isinstance(item, own.LeanLayerNormalization))
    assert not norm.zero_mean and len(norm.weights) == 2


def test_layer_norm_between_residuals_loses_its_offset(check_edit):
    x = image()
    tokens = own.GlobalTokens(3, 4)(x)
    for _ in range(2):
        tokens = layers.LayerNormalization()(tokens)
        attention = own.DotProductAttention(2)([layers.Dense(4)(tokens), tokens, tokens])
        tokens = layers.Add()([tokens, layers.Dense(4)(attention)])
    tokens = layers.LayerNormalization()(tokens)
    token = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), own.SelectToken(0)(tokens)])
    y = own.DotProductAttention(2)([x, layers.Dense(4)(tokens), layers.Dense(4)(tokens)])
    outputs = [layers.Dense(5)(token), layers.Conv2D(3, 1)(y)]
    result = check_edit(edit_layer_norms, model_of(x, outputs))
    norms = [item for item in result.layers if isinstance(item, own.LeanLayerNormalization)]
    assert [norm.center for norm in norms] == [False] * 3


@pytest.mark.parametrize("reader", ["query", "output", "sum", "convolution"])
def test_layer_norm_keeps_an_offset_that_somebody_needs(check_edit, reader):
    x = image()
    y = layers.LayerNormalization()(x)
    outputs = {
        "query": lambda: own.DotProductAttention(2)([y, x, layers.Dense(4)(y)]),
        "output": lambda: [layers.Dense(4)(y), y],
        "sum": lambda: layers.Add()([layers.Conv2D(4, 1)(y), layers.Activation("relu")(y)]),
        "convolution": lambda: layers.Conv2D(4, 3, padding="same")(y),
    }[reader]()
    result = check_edit(edit_layer_norms, model_of(x, outputs))
    (norm,) = (item for item in result.layers if isinstance(item, own.LeanLayerNormalization))
    assert norm.center


def test_a_gate_becomes_a_clipped_dense_layer(check_edit):
    x = image()
    gate = layers.Activation("hard_sigmoid")(layers.Dense(4)(x))
    y = layers.Multiply()([x, layers.Rescaling(2.0)(gate)])
    result = check_edit(edit_gates, model_of(x, layers.Dense(3)(y)))
    assert count(result, layers.Activation, layers.Rescaling) == 0


def test_a_gate_without_a_layer_after_it_stays(check_edit):
    x = image()
    gate = layers.Activation("hard_sigmoid")(layers.Dense(4)(x))
    result = check_edit(edit_gates, model_of(x, layers.Multiply()([x, gate])))
    assert count(result, layers.Activation) == 1


def test_dynamic_relu_gets_its_slopes_from_clipped_layers(check_edit):
    x = image()
    slopes = layers.Dense(8)(layers.GlobalAveragePooling2D()(x))
    result = check_edit(edit_dynamic_relus, model_of(x, own.DynamicReLU()([x, slopes])))
    assert count(result, own.DynamicReLU) == 0 and count(result, own.TwoSlopeReLU) == 1


def test_dense_layers_on_constant_tokens_become_constants(check_edit):
    x = image()
    tokens = own.GlobalTokens(3, 4)(layers.Conv2D(4, 1)(x))
    query = layers.Dense(4, activation="relu6")(layers.Dense(6)(tokens))
    y = layers.Add()([own.DotProductAttention()([query, x, x]), tokens])
    result = check_edit(edit_constant_tokens, model_of(x, y))
    assert count(result, layers.Dense) == 0
    assert count(result, layers.Conv2D) == 0, "the tokens need no features"


def test_shuffles_go_into_the_weights_around_them(check_edit):
    x = image(channels=8)
    y = own.ChannelShuffle(4)(own.GroupedConv2D(12, 1, groups=4)(x))
    y = layers.DepthwiseConv2D(3, depth_multiplier=2)(y)
    y = own.ChannelShuffle(3)(own.ChannelShuffle(12)(y))
    slopes = layers.GlobalAveragePooling2D()(x)
    y = own.TwoSlopeReLU()([y, layers.Dense(24)(slopes), layers.Dense(24)(slopes)])
    y = own.GroupedConv2D(8, 1, groups=2)(y)
    y = own.GroupedConv2D(8, 3, groups=2)(y)
    result = check_edit(edit_channel_shuffles, model_of(x, y))
    assert count(result, own.ChannelShuffle, own.GroupedConv2D) == 0


def test_a_shuffle_with_nothing_to_go_into_stays(check_edit):
    x = image()
    result = check_edit(edit_channel_shuffles, model_of(x, own.ChannelShuffle(2)(x)))
    assert count(result, own.ChannelShuffle) == 1


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_large_depthwise_kernel_becomes_several_of_few_taps(check_edit, use_bias):
    x = image(size=9)
    y = layers.DepthwiseConv2D(7, padding="same", use_bias=use_bias)(x)
    result = check_edit(edit_large_kernels, model_of(x, y))
    sizes = [
        np.prod(layer.kernel_size)
        for layer in result.layers
        if isinstance(layer, layers.DepthwiseConv2D)
    ]
    assert len(sizes) == 3 and max(sizes) <= 25


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    ("size", "channels", "kernel", "rate", "parts"),
    [
        (9, 160, 3, 6, {(1, 1): 9}),
        (9, 160, 3, 12, {(1, 1): 1}),
        (9, 160, 5, 3, {(1, 1): 25}),
        (9, 160, 5, (7, 1), {(1, 5): 3}),
        (9, 160, 3, (1, 6), {(3, 1): 3}),
        (9, 160, (3, 2), 6, {(1, 2): 3}),
        (32, 160, (3, 1), 18, {(1, 1): 3}),
        (32, 32, 3, 6, {(1, 3): 3}),  # taps would save less than they cost
        ((32, 9), 32, 3, 6, {(1, 1): 9}),
        ((9, 40), 32, 3, (2, 12), {(1, 3): 3}),
    ],
)
def test_a_dilated_kernel_multiplies_no_padding(
    check_edit, use_bias, size, channels, kernel, rate, parts
):
    height, width = size if isinstance(size, tuple) else (size, size)
    x = layers.Input((height, width, channels))
    y = layers.Conv2D(8, kernel, padding="same", dilation_rate=rate, use_bias=use_bias)(x)
    result = check_edit(edit_dilated_kernels, model_of(x, layers.ReLU()(y)))
    found = [layer for layer in result.layers if isinstance(layer, layers.Conv2D)]
    assert Counter(layer.kernel_size for layer in found) == parts
    assert sum(layer.use_bias for layer in found) == use_bias


@pytest.mark.parametrize(
    ("size", "channels", "options"),
    [
        (32, 160, {"dilation_rate": 2}),  # few rows of padding
        (16, 2, {"dilation_rate": 6}),  # few channels
        (16, 160, {"dilation_rate": 6, "padding": "valid"}),
        (16, 160, {"dilation_rate": 6, "activation": "relu"}),
        (16, 160, {"dilation_rate": 6, "groups": 2}),
        (None, 160, {"dilation_rate": 6}),
        (16, 160, {"strides": 2}),
    ],
)
def test_other_kernels_stay_whole(size, channels, options):
    x = layers.Input((size, size, channels))
    y = layers.Conv2D(8, 3, **{"padding": "same", **options})(x)
    result = edited(model_of(x, y), [edit_dilated_kernels]).to_model()
    assert count(result, layers.Conv2D) == 1


@pytest.mark.parametrize("channels", [4, 32])
def test_several_outputs_per_channel_become_one(check_edit, channels):
    x = image(channels=channels)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=3)(x)
    result = check_edit(edit_depth_multipliers, model_of(x, y))
    assert all(
        layer.depth_multiplier == 1
        for layer in result.layers
        if isinstance(layer, layers.DepthwiseConv2D)
    )


def test_operations_structures_and_shared_layers_survive(check_edit):
    x = image()
    dense = layers.Dense(4, name="shared")
    y = keras.ops.concatenate([dense(x) * 2.0, keras.ops.relu(dense(x))], axis=-1)
    y = layers.BatchNormalization()(layers.Conv2D(3, 1)(y))
    result = check_edit(edit_batch_norms, model_of(x, {"a": y, "b": x + 1.0}))
    assert set(result.output) == {"a", "b"}
    assert count(result, layers.Dense) == 1


@pytest.mark.parametrize(
    "reverse",
    [
        lambda x: x[..., ::-1],
        lambda x: x[:, :, :, ::-1],
        lambda x: keras.ops.flip(x, -1),
        lambda x: layers.Rescaling([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])(x[..., ::-1]),
        lambda x: layers.Rescaling(2.0)(layers.Rescaling([1.0, 2.0, 3.0])(x[..., ::-1])),
    ],
)
def test_reversed_channels_go_into_the_kernels_after(check_edit, reverse):
    x = image(channels=3)
    y = reverse(x)
    outputs = [layers.Conv2D(5, 3)(y), layers.Dense(4)(y)]
    result = check_edit(edit_channel_reversals, model_of(x, outputs))
    kinds = {type(operation).__name__ for operation in result.operations}
    assert not {"GetItem", "Flip"} & kinds


@pytest.mark.parametrize(
    "reverse",
    [
        lambda x: x[:, ::-1],
        lambda x: x[..., :2],
        lambda x: x[:, :, ::2, ::-1],
        lambda x: keras.ops.flip(x, 1),
        lambda x: keras.ops.flip(x),
    ],
)
def test_other_slices_and_flips_stay(check_edit, reverse):
    x = image(channels=3)
    result = check_edit(edit_channel_reversals, model_of(x, layers.Conv2D(5, 3)(reverse(x))))
    kinds = {type(operation).__name__ for operation in result.operations}
    assert {"GetItem", "Flip"} & kinds


def test_a_reversal_that_others_see_stays(check_edit):
    x = image(channels=3)
    y = x[..., ::-1]
    result = check_edit(
        edit_channel_reversals, model_of(x, [layers.Conv2D(5, 3)(y), layers.DepthwiseConv2D(3)(y)])
    )
    assert any(type(operation).__name__ == "GetItem" for operation in result.operations)


@pytest.mark.parametrize(
    "scale",
    [
        lambda x: x / 127.5 - 1.0,
        lambda x: (x - np.array([1.0, 2.0, 3.0])) / np.array([[[4.0, 5.0, 6.0]]]),
        lambda x: 1.0 - keras.ops.multiply(x, 0.5),
        lambda x: 3.0 + keras.ops.divide(x, 2.0),
    ],
)
def test_arithmetic_with_constants_scales_like_a_layer(check_edit, scale):
    x = image(channels=3)
    model = model_of(x, layers.Dense(4)(scale(x)))
    result = check_edit(edit_constant_arithmetic, model)
    assert {type(operation) for operation in result.operations} == {
        layers.InputLayer,
        layers.Rescaling,
        layers.Dense,
    }
    assert len(keras_hybrid.fuse(model).operations) == 2


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: 1.0 / (x + x),
        lambda x: x * np.ones((8, 1, 1), "float32"),
        lambda x: x * x,
        lambda x: x[..., :1] * np.ones(3, "float32"),
        lambda x: keras.ops.split(x, 3, axis=-1)[0],
    ],
)
def test_other_arithmetic_stays(check_edit, compute):
    x = image(channels=3)
    result = check_edit(edit_constant_arithmetic, model_of(x, layers.Dense(4)(compute(x))))
    assert count(result, layers.Rescaling) == 0


def test_images_of_bytes_are_float_in_files_and_bytes_in_fused_models():
    x = keras.Input((8, 8, 3), dtype="uint8")
    scaled = layers.Rescaling(1 / 255.0)(x)
    model = model_of(x, layers.Conv2D(4, 3)(scaled))
    fused = keras_hybrid.fuse(model)
    assert fused.inputs[0].dtype == "uint8"
    (layer,) = (item for item in fused.layers if isinstance(item, layers.Rescaling))
    assert layer.scale == 1, "it makes the bytes float, and the kernel scales"
    file = edited(model, FOR_FLOAT).to_model()
    assert file.inputs[0].dtype == "float32" and count(file, layers.Rescaling) == 0


def test_whole_numbers_that_are_no_image_stay_whole():
    x = keras.Input((8,), dtype="int32")
    model = model_of(x, layers.Dense(3)(layers.Embedding(10, 4)(x)))
    assert edited(model, FOR_FLOAT).to_model().inputs[0].dtype == "int32"


def test_casts_to_the_type_that_is_there_go_and_others_stay(check_edit):
    x = image()
    y = keras.ops.cast(layers.Activation("linear")(keras.ops.cast(x, "float32")), "float32")
    outputs = [
        layers.Dense(3)(y),
        layers.Dense(3)(keras.ops.cast(keras.ops.cast(y, "int32"), "float32")),
    ]
    result = check_edit(edit_regularisers, model_of(x, outputs))
    assert [type(operation).__name__ for operation in result.operations].count("Cast") == 2
    assert count(result, layers.Activation) == 0
