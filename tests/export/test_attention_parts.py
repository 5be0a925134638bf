"""Attention over large maps in files: part by part, and the same numbers."""

from collections import Counter

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_hybrid
from keras_hybrid.export.flatbuffer import attention_parts
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite

SHAPE = (12, 10, 8)


@pytest.fixture
def small_caches(monkeypatch):
    """Parts of at most 16 KiB, of at least 8 rows, so that small maps are large."""
    monkeypatch.setattr(attention_parts, "LARGEST", 16 * 1024)
    monkeypatch.setattr(attention_parts, "LEAST_ROWS", 8)


def heads(x, number, width=4):
    """(batch, h, w, c) -> (batch, number, h w, width)."""
    x = layers.Dense(number * width)(x)
    return ops.transpose(ops.reshape(x, (-1, x.shape[1] * x.shape[2], number, width)), (0, 2, 1, 3))


def attention_over(number, between=lambda x: x, transposed=False, shape=SHAPE):
    """A network of one attention, with `between` before the softmax."""
    image = keras.Input(shape, name="image")
    queries, keys, values = (heads(image, number) for _ in range(3))
    keys = ops.transpose(keys, (0, 1, 3, 2))
    weights = ops.softmax(between(ops.matmul(queries, keys)))
    x = ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))
    return keras.Model(image, layers.Dense(5, name="logits")(layers.Flatten()(x)))


def exported(model, path, precision="float32", **options):
    if precision.startswith("int8"):
        generator = np.random.default_rng(1)
        options["representative_data"] = generator.normal(size=(4, *model.input_shape[1:]))
    return keras_hybrid.export_tflite(model, path, precision, **options)


def operators(path):
    """(kind, shape of the first output) of each operator, in the order of the file."""
    file = TFLiteFile.read(path)
    (graph,) = file.model.subgraphs
    return [
        (file.operator_name(x), tuple(graph.tensors[int(x.outputs[0])].shape))
        for x in graph.operators
    ]


def assert_the_same_as_whole(model, path, monkeypatch, precision="float32"):
    image = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")
    (parts,) = run_tflite(path, image).values()
    with monkeypatch.context() as patch:
        patch.setattr("keras_hybrid.export.convert.part_attention", lambda file: None)
        whole = exported(model, path.with_stem("whole"), precision)
    assert Counter(name for name, _ in operators(whole))["SOFTMAX"] == 1
    np.testing.assert_array_equal(parts, next(iter(run_tflite(whole, image).values())))
    if precision == "float32":
        np.testing.assert_allclose(parts, model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8_cpu"])
@pytest.mark.parametrize(
    ("number", "maps"),
    [
        (2, [(1, 1, 30, 120)] * 8),  # 57,600 bytes each: rows of each head
        (1, [(1, 1, 30, 120)] * 4),
        (8, [(1, 1, 30, 120)] * 32),
    ],
)
def test_large_maps_are_computed_part_by_part(tmp_path, monkeypatch, precision, number, maps):
    keras.utils.set_random_seed(0)
    model = attention_over(number)
    path = exported(model, tmp_path / "parts.tflite", precision)
    found = operators(path)
    assert [shape for name, shape in found if name == "SOFTMAX"] == maps
    steps = [name for name, _ in found if name in ("BATCH_MATMUL", "SOFTMAX")]
    assert steps == ["BATCH_MATMUL", "SOFTMAX", "BATCH_MATMUL"] * len(maps)
    inspected = inspect_tflite(path)
    assert inspected.partitions == 1 and not inspected.undelegated
    assert_the_same_as_whole(model, path, monkeypatch, precision)


@pytest.mark.usefixtures("small_caches")
def test_small_maps_of_many_heads_go_together(tmp_path, monkeypatch):
    model = attention_over(7, shape=(4, 5, 8))  # 1,600 bytes each, 11,200 in all
    path = exported(model, tmp_path / "small.tflite")
    assert [x for x in operators(path) if x[0] == "SOFTMAX"] == [("SOFTMAX", (1, 7, 20, 20))]
    model = attention_over(7, shape=(6, 6, 8))  # 5,184 bytes each
    path = exported(model, tmp_path / "parts.tflite")
    softmaxes = [shape for name, shape in operators(path) if name == "SOFTMAX"]
    assert softmaxes == [(1, 2, 36, 36), (1, 2, 36, 36), (1, 3, 36, 36)]
    assert_the_same_as_whole(model, path, monkeypatch)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize(
    "between",
    [lambda x: x * 0.3, lambda x: 0.3 * x + 0.1, lambda x: x / 3.0],
    ids=["scaled", "moved", "divided"],
)
def test_logits_that_are_scaled_are_too(tmp_path, monkeypatch, between):
    model = attention_over(2, between)
    path = exported(model, tmp_path / "scaled.tflite")
    assert [shape for name, shape in operators(path) if name == "SOFTMAX"] == [(1, 1, 30, 120)] * 8
    assert_the_same_as_whole(model, path, monkeypatch)


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("kind", [layers.MultiHeadAttention, layers.Attention])
def test_layers_of_keras_are_too(tmp_path, monkeypatch, kind):
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE, name="image")
    tokens = layers.Reshape((120, 8))(image)
    options = {"num_heads": 2, "key_dim": 4} if kind is layers.MultiHeadAttention else {}
    attended = kind(**options)
    x = attended(tokens, tokens) if options else attended([tokens, tokens])
    model = keras.Model(image, layers.Dense(5, name="logits")(layers.Flatten()(x)))
    path = exported(model, tmp_path / "keras.tflite")
    softmaxes = [shape for name, shape in operators(path) if name == "SOFTMAX"]
    assert len(softmaxes) == (8 if options else 4)
    assert_the_same_as_whole(model, path, monkeypatch)


def both_ways(x):
    """A map that is added to its own transpose: rows are not independent."""
    return x + ops.transpose(x, (0, 1, 3, 2))


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize(
    "between",
    [both_ways, lambda x: x + ops.reshape(ops.arange(120, dtype="float32") / 60, (1, 1, 1, -1))],
    ids=["transposed", "biased"],
)
def test_other_maps_stay_whole(tmp_path, between):
    model = attention_over(2, between)
    path = exported(model, tmp_path / "whole.tflite")
    assert [shape for name, shape in operators(path) if name == "SOFTMAX"] == [(1, 2, 120, 120)]


@pytest.mark.usefixtures("small_caches")
@pytest.mark.parametrize("combine", [ops.add, ops.multiply, ops.subtract])
def test_a_map_beside_another_stays_whole(tmp_path, combine):
    image = keras.Input(SHAPE, name="image")
    queries, keys, values, others = (heads(image, 2) for _ in range(4))
    keys = ops.transpose(keys, (0, 1, 3, 2))
    bias = ops.tanh(ops.matmul(others, keys))  # of the image
    weights = ops.softmax(combine(ops.matmul(queries, keys), bias))
    x = layers.Flatten()(ops.matmul(weights, values))
    model = keras.Model(image, layers.Dense(5, name="logits")(x))
    path = exported(model, tmp_path / "bias.tflite")
    assert [shape for name, shape in operators(path) if name == "SOFTMAX"] == [(1, 2, 120, 120)]
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    (actual,) = run_tflite(path, images).values()
    np.testing.assert_allclose(actual, model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("small_caches")
def test_a_map_that_is_given_stays_whole(tmp_path):
    image = keras.Input(SHAPE, name="image")
    queries, keys, values = (heads(image, 2) for _ in range(3))
    weights = ops.softmax(ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2))))
    model = keras.Model(image, {"map": weights, "value": ops.matmul(weights, values)})
    path = exported(model, tmp_path / "map.tflite")
    assert [shape for name, shape in operators(path) if name == "SOFTMAX"] == [(1, 2, 120, 120)]


@pytest.mark.usefixtures("small_caches")
def test_files_for_gpus_stay_whole(tmp_path):
    path = exported(attention_over(2), tmp_path / "gpu.tflite", target="gpu")
    assert [shape for name, shape in operators(path) if name == "SOFTMAX"] == [(1, 2, 120, 120)]


@pytest.mark.usefixtures("small_caches")
def test_nothing_is_left_of_what_was_whole(tmp_path):
    file = TFLiteFile.read(exported(attention_over(2), tmp_path / "parts.tflite"))
    (graph,) = file.model.subgraphs
    made = {int(x) for operator in graph.operators for x in operator.outputs}
    read = {int(x) for operator in graph.operators for x in operator.inputs}
    outputs = {int(x) for x in graph.outputs}
    assert made - read <= outputs
    assert set(range(len(graph.tensors))) == (made | read | {int(x) for x in graph.inputs}) - {-1}
    names = {graph.tensors[x].name for x in made}
    assert not any(b"_part" in name or name == b"" for name in names)


@pytest.mark.large
@pytest.mark.parametrize("precision", ["float32", "int8_cpu"])
def test_segmentation_at_its_size_needs_no_whole_map(tmp_path, precision):
    model = keras_hybrid.DeepLabV3MobileViTXXS(input_shape=(512, 512, 3), weights=None)
    path = tmp_path / "deeplab.tflite"
    noise = np.random.default_rng(0).normal(size=(2, 512, 512, 3)).astype("float32")
    options = {"representative_data": noise} if precision == "int8_cpu" else {}
    keras_hybrid.export_tflite(model, path, precision, **options)
    softmaxes = [shape for name, shape in operators(path) if name == "SOFTMAX"]
    assert softmaxes[:32] == [(1, 1, 1024, 1024)] * 32  # two layers of 16 sequences and heads
    assert set(softmaxes[32:]) == {(1, 16, 256, 256)}
    assert inspect_tflite(path).partitions == 1
