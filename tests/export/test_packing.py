"""Files in few bytes: what they say stays the same, and what runs in them."""

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from harness import randomise
from keras import layers

import keras_hybrid
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.flatbuffer.packing import pack
from keras_hybrid.export.metadata import read_metadata


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory, require):
    require(module="tensorflow_model_optimization")
    x = image = keras.Input((16, 16, 3))
    for number in range(4):
        x = layers.Conv2D(8, 3, padding="same", name=f"stage{number}_conv")(x)
        x = layers.Activation("silu", name=f"stage{number}_silu")(x)
    x = layers.Dense(5, activation="softmax", name="classes")(layers.Flatten()(x))
    return keras_hybrid.export_tflite(
        randomise(keras.Model(image, x)),
        tmp_path_factory.mktemp("packed") / "int8.tflite",
        "int8",
        representative_data=np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32"),
        labels=list("abcde"),
    )


def plainly_written(path):
    return written(TFLiteFile.read(path).model)


def written(model):
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def described(content):
    """All that a file says, table by table."""

    def spread(value):
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.tolist()
        if isinstance(value, list):
            return [spread(item) for item in value]
        if type(value).__module__ == schema.__name__:
            return {key: spread(field) for key, field in vars(value).items()}
        return value

    return spread(unpacked(content))


def unpacked(content):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))


def computed(content, images, resolver):
    interpreter = Interpreter(
        model_content=content, num_threads=1, experimental_op_resolver_type=resolver
    )
    runner = interpreter.get_signature_runner("serving_default")
    return [next(iter(runner(image=image[None]).values())) for image in images]


def test_a_packed_file_says_what_a_plain_one_says_in_fewer_bytes(int8_file):
    plain = plainly_written(int8_file)
    packed = pack(TFLiteFile.read(int8_file).model)
    assert described(packed) == described(plain)
    assert len(packed) < len(plain) - 1000
    name = b"stage1_silu"
    assert packed.count(name) < plain.count(name), "equal names are to be stored once"
    assert pack(unpacked(packed)) == packed


def test_numbers_and_texts_that_look_alike_stay_apart():
    """Equal bytes under other types, and equal values in other fields of a table."""
    model = schema.ModelT()
    model.version, model.description = 3, b"\x01\x00\x00\x00"
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(model.description, "uint8")
    graph = schema.SubGraphT()
    graph.inputs, graph.outputs = np.array([1], "int32"), np.array([0], "int32")
    graph.operators, graph.tensors, model.operatorCodes = [], [], []
    for number in range(2):
        tensor = schema.TensorT()
        tensor.name, tensor.buffer = b"\x01\x00\x00\x00", number
        tensor.shape = np.array([1], "int32")
        tensor.quantization = schema.QuantizationParametersT()
        graph.tensors.append(tensor)
    graph.tensors[0].quantization.max = np.array([1.0], "float32")
    graph.tensors[1].quantization.scale = np.array([1.0], "float32")
    model.subgraphs = [graph]
    plain = written(model)
    assert described(pack(unpacked(plain))) == described(plain)


@pytest.mark.parametrize(
    "resolver", [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES]
)
def test_a_packed_file_computes_the_same_bits(int8_file, noise, resolver):
    images = noise(4)
    actual = computed(int8_file.read_bytes(), images, resolver)
    expected = computed(plainly_written(int8_file), images, resolver)
    np.testing.assert_array_equal(actual, expected)
    assert len(np.unique(actual, axis=0)) == 4


def test_names_tell_the_layer_and_constants_have_none(int8_file):
    model = TFLiteFile.read(int8_file).model
    (graph,) = model.subgraphs
    computed = {int(index) for operator in graph.operators for index in operator.outputs}
    ends = {int(index) for index in (*graph.inputs, *graph.outputs)}
    constants = set(range(len(graph.tensors))) - computed - ends
    assert constants and {graph.tensors[index].name for index in constants} == {b""}
    inner = {graph.tensors[index].name.decode() for index in computed - ends}
    layers_told = {name.removesuffix("_1") for name in inner}
    assert {f"stage{number}_silu" for number in range(4)} <= layers_told
    assert not any(name.isdigit() or "/" in name for name in inner)
    assert read_metadata(int8_file).labels == tuple("abcde")
