"""Files for one engine: other operators, the same numbers."""

import pytest
from keras import layers

import keras_hybrid
from keras_hybrid import layers as own
from keras_hybrid.surgery import channel_parts
from keras_hybrid.surgery.channel_parts import edit_channel_parts
from keras_hybrid.surgery.passes.constant_tokens import edit_constant_queries
from keras_hybrid.surgery.passes.depthwise import edit_multipliers_to_dense
from keras_hybrid.surgery.pipelines import FILES, FOR_GPU, FOR_NPU, check_target, edited
from keras_hybrid.surgery.positions_first import edit_positions_first


def count(model, *classes):
    return sum(isinstance(layer, classes) for layer in model.layers)


@pytest.mark.parametrize(
    ("precision", "target"),
    [("float32", "cpu"), ("float16", "cpu"), ("int8", "npu"), ("int8_cpu", "cpu")],
)
def test_every_precision_has_an_engine_of_its_own(precision, target):
    assert check_target(precision, None) == target


@pytest.mark.parametrize(
    ("precision", "target", "said"),
    [
        ("float32", "tpu", "must be one of.*cpu.*gpu.*npu.*Received: target='tpu'"),
        ("float32", "npu", "Files for 'npu' have a precision of .*'int8'.*Received: precision="),
        ("int8_cpu", "gpu", "Files for 'gpu' have a precision of .*'float32', 'float16'"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused_with_what_does(precision, target, said):
    with pytest.raises(ValueError, match=said):
        check_target(precision, target)


def test_queries_that_do_not_depend_on_the_image_are_weights(check_edit):
    x = layers.Input((4, 6, 8))
    tokens = own.GlobalTokens(3, 8)(x)
    keys = layers.Reshape((24, 8))(x)
    for inputs in ([tokens, x, x], [tokens, keys, keys]):
        attended = own.DotProductAttention(2)(inputs)
        result = check_edit(edit_constant_queries, keras_model(x, attended))
        assert count(result, own.LearnedQueryAttention) == 1
        assert count(result, own.GlobalTokens, own.DotProductAttention) == 0


@pytest.mark.parametrize("strides", [1, 2])
def test_several_outputs_a_channel_are_a_dense_kernel(check_edit, strides):
    x = layers.Input((8, 8, 5))
    y = layers.DepthwiseConv2D(3, strides, "same", depth_multiplier=3)(x)
    result = check_edit(edit_multipliers_to_dense, keras_model(x, y))
    assert count(result, layers.DepthwiseConv2D) == 0 and count(result, layers.Conv2D) == 1


def blocks(x):
    """Blocks as the families have them: convolutions, depthwise ones and activations between."""
    tokens = layers.GlobalAveragePooling2D()(x)
    y = layers.Conv2D(96, 1)(x)
    y = own.TwoSlopeReLU()([y, layers.Dense(96)(tokens), layers.Dense(96)(tokens)])
    y = layers.Activation("gelu")(layers.DepthwiseConv2D(3, padding="same")(y))
    x = layers.Add()([x, layers.Conv2D(8, 1)(y)])
    return layers.Conv2D(4, 1, use_bias=False)(
        layers.Conv2D(128, 3, padding="same", activation="relu")(x)
    )


def test_wide_maps_are_computed_in_parts_of_their_channels(check_edit, monkeypatch):
    x = layers.Input((8, 8, 8))
    unchanged = check_edit(edit_channel_parts, keras_model(x, blocks(x)))
    assert count(unchanged, layers.Conv2D) == 4
    monkeypatch.setattr(channel_parts, "FAST_MEMORY", 2**12)
    parted = check_edit(edit_channel_parts, keras_model(x, blocks(x)))
    filters = [layer.filters for layer in parted.layers if isinstance(layer, layers.Conv2D)]
    assert sorted(filters) == [4, 4, 8, 8, 8, 32, 32, 32, 64, 64]
    assert count(parted, layers.Dense) == 6


def test_what_else_reads_a_wide_map_keeps_it_whole(check_edit, monkeypatch):
    monkeypatch.setattr(channel_parts, "FAST_MEMORY", 2**12)
    x = layers.Input((8, 8, 8))
    wide = layers.Conv2D(128, 1)(x)
    for y in (
        layers.Concatenate()([wide, layers.Conv2D(8, 1)(wide)]),
        layers.Conv2D(8, 1)(layers.Activation("softmax")(wide)),
        layers.Conv2D(8, 3)(wide),
    ):
        result = check_edit(edit_channel_parts, keras_model(x, y))
        assert count(result, layers.Add) == 0


def patches(reader):
    """Layers between unfolding and folding of maps of 8 x 12, read by `reader`."""
    image = layers.Input((8, 12, 4))
    x = own.UnfoldPatches(2)(image)
    query, key = layers.Dense(4)(x), layers.Dense(4)(x)
    x = layers.Add()([x, own.DotProductAttention(2, separate_positions=True)([query, key, x])])
    return keras_model(image, reader(layers.Dense(4, activation="silu")(x), image))


def test_positions_come_first_between_unfolding_and_folding(check_edit):
    model = patches(lambda x, image: own.FoldPatches(2)([x, image]))
    result = check_edit(edit_positions_first, model)
    assert all(
        layer.positions_first
        for layer in result.layers
        if isinstance(layer, own.UnfoldPatches | own.FoldPatches | own.DotProductAttention)
    )


def test_what_looks_at_the_axes_keeps_them(check_edit):
    for reader in (lambda x, image: x, lambda x, image: layers.Flatten()(x)):
        result = check_edit(edit_positions_first, patches(reader))
        assert not any(getattr(layer, "positions_first", False) for layer in result.layers)


@pytest.mark.large
@pytest.mark.parametrize("name", ["MobileFormer26M", "MobileViTXXS", "IFormerT"])
def test_pipelines_of_all_engines_compute_the_same(name, check_pass):
    model = keras_hybrid.build_model(name, weights=None, classes=5, input_shape=(64, 64, 3))
    for pipeline in (FOR_GPU, FOR_NPU):
        check_pass(lambda model, edits=pipeline: edited(model, edits).to_model(), model, 2e-5)


def test_a_table_of_files_has_all_precisions():
    from keras_hybrid.export.convert import PRECISIONS

    assert tuple(FILES) == PRECISIONS


def keras_model(inputs, outputs):
    import keras

    return keras.Model(inputs, outputs)
