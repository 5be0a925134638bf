"""What NPUs want spelled otherwise: as exact as the other spelling, and in integers throughout."""

import numpy as np
import pytest
from harness import decibels
from keras import layers

from keras_hybrid import layers as own
from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.metadata import read_record
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.quantization.passes.pixels import edit_quantized_preprocessing
from keras_hybrid.quantization.quantize import quantize, target_of
from keras_hybrid.quantization.ranges.calibration import calibrate
from keras_hybrid.quantization.twins import for_npu as twins
from keras_hybrid.quantization.twins.for_npu import (
    NpuDotProductAttention,
    NpuLayerNormalization,
    _block_width,
)
from keras_hybrid.surgery import channel_parts
from keras_hybrid.surgery.editable_model import EditableModel


def tokens_of(x, count=3):
    """A few tokens that depend on the image."""
    x = layers.Flatten()(layers.AveragePooling2D(4)(x))
    return layers.Reshape((count, 8))(layers.Dense(8 * count)(x))


def to_tokens(image):
    x = layers.Conv2D(8, 3, padding="same")(image)
    tokens = tokens_of(x)
    update = own.DotProductAttention(2)([x, layers.Dense(8)(tokens), layers.Dense(8)(tokens)])
    return layers.Flatten()(layers.AveragePooling2D(4)(layers.Add()([x, update])))


def from_tokens(image):
    x = layers.Conv2D(8, 3, padding="same")(image)
    return layers.Flatten()(own.DotProductAttention(2)([tokens_of(x), x, x]))


def over_a_map(image):
    x = layers.Conv2D(8, 3, padding="same")(image)
    query, key = layers.Conv2D(8, 1)(x), layers.Conv2D(8, 1)(x)
    attended = own.DotProductAttention(1)([query, key, x])
    return layers.Flatten()(layers.AveragePooling2D(4)(attended))


def over_patches(image):
    x = layers.Conv2D(8, 3, padding="same")(image)
    y = layers.LayerNormalization()(own.UnfoldPatches(2)(x))
    y = own.DotProductAttention(2, separate_positions=True)([layers.Dense(8)(y)] * 2 + [y])
    return layers.Flatten()(layers.AveragePooling2D(4)(own.FoldPatches(2)([y, x])))


def rows_alone(image):
    """Attention over 16 patches: softmax is an operator."""
    return over_patches(layers.AveragePooling2D(2)(image))


def off_center(path):
    """Zero points on the right of matrix products: if not 0, another kernel than XNNPACK's, which
    does not compute what the twin does."""
    file = TFLiteFile.read(path)
    graph = file.model.subgraphs[0]
    products = [x for x in graph.operators if file.operator_name(x) == "BATCH_MATMUL"]
    assert products
    return [int(graph.tensors[x.inputs[1]].quantization.zeroPoint[0]) for x in products]


@pytest.fixture
def spelled_out(monkeypatch):
    """Softmax over few tokens is spelled out for few pixels, too."""
    monkeypatch.setattr(twins, "LEAST_QUERIES", 1)


@pytest.mark.large
@pytest.mark.parametrize("function", [to_tokens, from_tokens, over_a_map, over_patches])
def test_as_exact_as_for_cpus(function, small_network, through_int8, spelled_out):
    model = small_network(function)
    for_cpu, for_npu = (through_int8(model, target=target) for target in ("cpu", "npu"))
    assert target_of(for_npu.model) == "npu"
    assert any(
        isinstance(layer, NpuDotProductAttention | NpuLayerNormalization)
        for layer in for_npu.model.layers
    )
    assert for_npu.from_keras >= 30
    assert for_npu.from_float >= for_cpu.from_float - 3
    assert not for_npu.inspection.integer_offenders
    refused = {"SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "MEAN"}
    assert not refused.intersection(for_npu.inspection.ops)
    if function is over_patches:  # heads are cut out
        assert "TRANSPOSE" not in for_npu.inspection.ops
    assert not any(off_center(for_npu.path))


@pytest.mark.large
@pytest.mark.parametrize("function", [over_a_map, over_patches, rows_alone])
def test_heads_computed_one_by_one_are_those_computed_together(
    function, small_network, through_int8, make_images, monkeypatch
):
    import tensorflow as tf

    model = through_int8(small_network(function), target="npu").model
    images = make_images(4)

    def traced():  # as a converter does: for Keras they are computed together
        outputs = tf.function(lambda x: model(x, training=False), autograph=False)
        operators = outputs.get_concrete_function(tf.constant(images)).graph.get_operations()
        return outputs(images).numpy(), len(operators)

    alone, many = traced()
    monkeypatch.setattr(twins, "MOST_SLICES", 0)
    together, few = traced()
    assert many != few, "both ways were the same"
    assert np.abs(alone - together).max() <= 1e-6
    monkeypatch.undo()
    monkeypatch.delattr(twins.NpuDotProductAttention, "_by_head")
    model(images)  # without it
    with pytest.raises(AttributeError):
        traced()


def block(image):
    """A map that is widened, computed channel by channel and narrowed, as in all families."""
    x = layers.Conv2D(8, 3, padding="same")(image)
    tokens = layers.GlobalAveragePooling2D()(x)
    y = layers.BatchNormalization()(layers.Conv2D(96, 1, use_bias=False)(x))
    y = own.TwoSlopeReLU()([y, layers.Dense(96)(tokens), layers.Dense(96)(tokens)])
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.Activation("silu")(layers.BatchNormalization()(y))
    x = layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(y))])
    return layers.Flatten()(layers.AveragePooling2D(4)(x))


@pytest.mark.large
@pytest.mark.parametrize("batch_norm", ["folded", "frozen"])
def test_parts_of_wide_maps_are_as_exact(batch_norm, small_network, through_int8, monkeypatch):
    monkeypatch.setattr(channel_parts, "FAST_MEMORY", 2**14)
    result = through_int8(small_network(block), target="npu", batch_norm=batch_norm)
    assert sum("_part" in layer.name and "depthwise" in layer.name for layer in result.model.layers)
    assert result.from_keras >= 30 and result.from_float >= 25
    assert not result.inspection.integer_offenders


@pytest.mark.large
@pytest.mark.parametrize("target", ["npu", "cpu"])
def test_what_has_been_trained_is_what_ships_for_its_engine(
    target, small_network, make_images, tmp_path
):
    images = make_images(16)
    model = calibrate(quantize(small_network(over_patches), target=target), images, stream=None)
    model.compile("sgd", "mse")
    before = np.asarray(model(images))
    model.fit(images, 0 * before, batch_size=8, verbose=0)
    path = export_tflite(model, tmp_path / "a.tflite", "int8")
    assert read_record(path)["target"] == target
    (shipped,) = run_tflite(path, images).values()
    trained = np.asarray(model(images))
    assert decibels(trained, shipped) >= 30 > decibels(before, trained)
    other = {"npu": "cpu", "cpu": "npu"}[target]
    with pytest.raises(ValueError, match=f"quantised for '{target}'"):
        export_tflite(model, tmp_path / "b.tflite", "int8", target=other)


@pytest.mark.parametrize(("length", "width"), [(256, 16), (196, 14), (3136, 16), (7, 7)])
def test_blocks_of_a_row_are_as_wide_as_costs_least(length, width):
    assert _block_width(length) == width


def test_pixels_are_read_side_by_side(small_network):
    model = small_network(lambda image: layers.Flatten()(layers.Conv2D(4, 3)(image)))
    for size, blocks in ((16, True), (24, False)):
        editable = EditableModel(quantize(model))
        editable.inputs.shape = (1, size, size, 3)
        assert edit_quantized_preprocessing(editable, (0.4, 0.5, 0.6), (1, 1, 1), "RGB", True)
        names = [step.name for step in editable.steps]
        assert ("preprocessing_blocks" in names) == blocks
