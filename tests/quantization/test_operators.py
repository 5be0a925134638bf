"""Each kind of layer alone through int8: the file has no float, and computes what Keras does."""

import keras
import pytest
from keras import layers as L

from keras_hybrid import layers as hybrid


def conv(x, filters=16, kernel=3, **options):
    return L.Conv2D(filters, kernel, padding="same", **options)(x)


def attention(x, **options):
    projections = [conv(x, kernel=1) for _ in range(3)]
    return conv(hybrid.DotProductAttention(**options)(projections))


def patches(x):
    tokens = hybrid.UnfoldPatches(2)(x)
    projections = [L.Dense(16)(tokens) for _ in range(3)]
    attended = hybrid.DotProductAttention(4, separate_positions=True)(projections)
    return conv(hybrid.FoldPatches(2)([attended, x]))


def to_tokens(x):
    tokens = L.Reshape((3, 16))(L.Dense(48)(L.GlobalAveragePooling2D()(x)))
    return conv(hybrid.DotProductAttention(2)([x, L.Dense(16)(tokens), L.Dense(16)(tokens)]), 4)


def among_tokens(x):
    tokens = L.Reshape((3, 16))(L.Dense(48)(L.GlobalAveragePooling2D()(x)))
    return hybrid.DotProductAttention(2)([L.Dense(16)(tokens) for _ in range(3)])


def residual_to_tokens(x):
    tokens = L.Reshape((3, 16))(L.Dense(48)(L.GlobalAveragePooling2D()(x)))
    attention = hybrid.DotProductAttention(2)
    return conv(L.Add()([x, attention([x, L.Dense(16)(tokens), L.Dense(16)(tokens)])]), 4)


def clipped_parts(x):
    """The clipping cannot be done before: one part is used as it is, too."""
    part = conv(x, 8)
    clipped = L.ReLU(6.0)(L.Concatenate()([part, conv(x, 8)]))
    return conv(L.Concatenate()([clipped, part]))


def dynamic_relu(x):
    slopes = L.Dense(32)(L.GlobalAveragePooling2D()(x))
    return conv(hybrid.DynamicReLU()([conv(x), slopes]))


def sigmoid_values(x):
    values = L.Activation("sigmoid")(conv(x, kernel=1))
    return conv(hybrid.DotProductAttention()([conv(x, kernel=1), conv(x, kernel=1), values]))


# Behind a convolution of stride 2: 8 x 8 pixels of 16 channels.
CASES = {
    "relu": lambda x: L.Dense(5)(L.GlobalAveragePooling2D()(conv(x, activation="relu"))),
    "gelu": lambda x: conv(L.Activation("gelu")(x)),
    "silu": lambda x: conv(L.Activation("silu")(x)),
    "hard_silu": lambda x: conv(L.Activation("hard_silu")(x)),
    "hard_sigmoid": lambda x: conv(L.Activation("hard_sigmoid")(x)),
    "gate": lambda x: L.Multiply()([conv(x, activation="sigmoid"), conv(x, activation="tanh")]),
    "depthwise": lambda x: conv(L.DepthwiseConv2D(3, depth_multiplier=3, strides=2)(x)),
    "large_kernel": lambda x: conv(L.DepthwiseConv2D(7, padding="same")(x)),
    "scaling": lambda x: conv(L.MaxPooling2D()(L.Rescaling(0.5, offset=0.25)(x))),
    "lonely_norm": lambda x: conv(L.BatchNormalization()(L.MaxPooling2D()(x))),
    "layer_norm": lambda x: conv(L.LayerNormalization()(x)),
    "three": lambda x: conv(L.Add()([x, conv(x), conv(x)])),
    "concatenate": lambda x: conv(L.Concatenate()([conv(x, 8), conv(x, 4)])),
    "clipped_parts": clipped_parts,
    "attention": lambda x: attention(x),
    "heads": lambda x: attention(x, num_heads=4),
    "windows": lambda x: attention(x, num_heads=2, window_size=4),
    "patches": patches,
    "from_tokens": lambda x: L.Dense(4)(
        hybrid.DotProductAttention(2)([L.Dense(16)(hybrid.GlobalTokens(3, 16)(x)), x, x])
    ),
    "to_tokens": to_tokens,
    "among_tokens": among_tokens,
    "residual_to_tokens": residual_to_tokens,
    "dynamic_relu": dynamic_relu,
    "sigmoid_values": sigmoid_values,
}
# Outside of XNNPACK's int8: look-up tables and rows of softmax.
UNDELEGATED = {"RELU6", "GELU", "SOFTMAX", "HARD_SWISH", "EXP", "LOG", "MAXIMUM"}


def network(small_network, case):
    return small_network(lambda image: CASES[case](conv(image, strides=2)))


# What NPUs get in another form.
FOR_NPUS = (
    *("depthwise", "large_kernel", "layer_norm", "attention", "heads", "patches", "from_tokens"),
    *("to_tokens", "residual_to_tokens", "dynamic_relu"),
)


@pytest.mark.large
@pytest.mark.parametrize(
    ("case", "target"),
    [*((case, "cpu") for case in CASES), *((case, "npu") for case in FOR_NPUS)],
)
def test_int8_has_no_float_and_computes_what_keras_does(small_network, through_int8, case, target):
    result = through_int8(network(small_network, case), target=target)
    assert result.inspection.integer_offenders == ()
    assert result.from_float >= 28
    assert result.from_keras >= 50
    assert target == "npu" or set(result.inspection.undelegated) <= UNDELEGATED


@pytest.mark.large
def test_factors_and_offsets_of_a_layer_norm_are_rounded_as_in_the_file(
    small_network, through_int8
):
    """Where nothing that follows can take them."""

    def function(image):
        x = L.LayerNormalization(name="norm")(conv(image, strides=2))
        return L.Add()([x, conv(x)])

    result = through_int8(small_network(function))
    norm = result.model.get_layer("norm")
    assert norm.factors.seen_range and norm.offsets.seen_range
    assert result.from_keras >= 50


@pytest.mark.large
def test_what_is_concatenated_is_clipped_before(small_network, through_int8):
    """Else the common range would be that of the convolutions, most of it clipped away."""

    def function(image):
        x = conv(image, strides=2) * 8.0
        x = L.ReLU(6.0, name="relu")(L.DepthwiseConv2D(3, depth_multiplier=3, strides=2)(x))
        return conv(x, 4, kernel=1)

    result = through_int8(small_network(function), target="cpu")
    roundings = [x for x in result.model.layers if x.name.startswith("relu_of")]
    assert roundings and "RELU6" not in result.inspection.ops
    ranges = [x.range for x in roundings if hasattr(x, "range")]
    assert ranges == [(0.0, pytest.approx(6.0, rel=1e-3))]
    assert "TRANSPOSE" not in result.inspection.ops, "the order went into the next kernel"


@pytest.mark.large
@pytest.mark.parametrize("case", ["among_tokens", "residual_to_tokens"])
def test_attention_left_in_float_is_float_in_the_file(small_network, through_int8, case):
    result = through_int8(network(small_network, case), "int8_cpu")
    softmax = [x for x in result.inspection.float_tensors if x.producer in ("SOFTMAX", "DIV")]
    dequantized = [x.name for x in result.inspection.float_tensors if x.producer == "DEQUANTIZE"]
    assert len(softmax) == 1 and not any("attention" in name for name in dequantized)
    assert result.from_keras >= 50


@pytest.mark.parametrize("case", ["among_tokens", "residual_to_tokens"])
def test_zeros_are_in_the_few_keys(small_network, case):
    import keras_hybrid
    from keras_hybrid.quantization.twins.attention import QuantizedDotProductAttention

    model = keras_hybrid.quantize(network(small_network, case))
    layer = next(x for x in model.layers if isinstance(x, QuantizedDotProductAttention))
    assert layer.masked_key.built and layer.masked_query is None


@pytest.mark.large
@pytest.mark.parametrize("case", CASES)
def test_int8_cpu_is_one_partition_and_computes_what_keras_does(small_network, through_int8, case):
    result = through_int8(network(small_network, case), "int8_cpu")
    assert result.inspection.undelegated == {}
    assert result.inspection.partitions == 1
    assert result.from_float >= 30
    assert result.from_keras >= 45
    assert result.inspection.ops["LEAKY_RELU"] == 0, "no mark is left in the file"


@pytest.mark.large
@pytest.mark.parametrize("strength", [0.1, 4.0])
def test_long_rows_of_weights_survive_int8(small_network, through_int8, strength):
    """A thousand nearly equal weights are nothing on softmax's grid of 1/256; nor may few large
    ones be lost beside them."""

    def function(image):
        x = conv(image, strides=2)
        query, key, value = (conv(x, kernel=1) for _ in range(3))
        x = hybrid.DotProductAttention(scale=strength)([query, key, value])
        return conv(x, kernel=1)

    result = through_int8(small_network(function, size=64))
    assert result.from_float >= 25
    assert result.from_keras >= 30
    assert result.inspection.ops["SOFTMAX"] == 0
    assert result.inspection.integer_offenders == ()


@pytest.mark.large
def test_int8_cpu_leaves_in_float_what_is_slower_in_int8(small_network, through_int8):
    def function(image):
        x = conv(image, name="stem", strides=2)
        x = conv(x, name="first", kernel=1)
        x = L.DepthwiseConv2D(3, depth_multiplier=2, strides=2, name="multiplied")(x)
        x = conv(x, name="second", kernel=1)
        x = L.DepthwiseConv2D(3, padding="same", name="plain")(x)
        x = conv(x, name="third", kernel=1)
        few = attention(x)  # 9 pixels
        return L.LayerNormalization(name="norm")(L.Add(name="sum")([x, few]))

    from keras_hybrid.quantization.report import float_layers
    from keras_hybrid.quantization.twins.kernels import QuantizedKernel

    result = through_int8(small_network(function), "int8_cpu")
    int8 = {layer.name for layer in result.model.layers if isinstance(layer, QuantizedKernel)}
    assert {"first", "second", "plain", "third"} <= int8
    assert not {"stem", "multiplied"} & int8, int8
    reasons = float_layers(result.model)
    named = {name.rstrip("_0123456789") for name in reasons}
    assert named == {"stem", "multiplied", "sum", "norm", "dot_product_attention"}
    kinds = {op: result.inspection.undelegated[op] for op in result.inspection.undelegated}
    assert kinds == {} and result.inspection.partitions == 1
    assert result.from_float >= 30


def test_kept_float_is_float_in_the_file(small_network, through_int8):
    def function(image):
        x = L.Conv2D(16, 3, activation="silu", name="first")(image)
        x = L.Activation("gelu", name="curve")(L.Conv2D(16, 3, name="second")(x))
        return L.Conv2D(8, 3, name="third")(x)

    model = small_network(function)
    result = through_int8(model, keep_float=("second", "curve"))
    tensors = {tensor.producer for tensor in result.inspection.float_tensors}
    assert tensors == {"DEQUANTIZE", "CONV_2D", "GELU"}
    assert "MUL" not in tensors, "no mark is left in the file"
    assert result.from_keras >= 40


@pytest.mark.large
def test_operators_without_weights_stay_float_when_they_shall(small_network, through_int8):
    """Between two roundings, the converter would make them int8 again."""

    def function(image):
        x = L.Activation("gelu", name="curve")(L.Conv2D(16, 3, name="first")(image))
        y = L.Conv2D(16, 1, name="second")(x)
        return L.Conv2D(8, 3, name="third")(L.Add(name="sum")([x, y]))

    result = through_int8(small_network(function), keep_float=("curve", "sum"))
    tensors = [tensor.producer for tensor in result.inspection.float_tensors]
    assert {"GELU", "ADD"} <= set(tensors) <= {"GELU", "ADD", "DEQUANTIZE"}
    assert result.from_keras >= 40


@pytest.mark.large
@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Conv2D(16, 3, padding="same", name="kept"),
        lambda: L.DepthwiseConv2D(3, name="kept"),
        lambda: L.Dense(16, activation="relu", name="kept"),
    ],
)
def test_a_kernel_kept_float_between_int8_is_float_in_the_file(small_network, through_int8, layer):
    model = small_network(lambda image: conv(layer()(conv(image))))
    result = through_int8(model, keep_float="kept")
    assert {tensor.producer for tensor in result.inspection.float_tensors} & {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
    }
    assert result.inspection.ops["LEAKY_RELU"] == 0, "no mark is left in the file"
    assert result.from_keras >= 40


@pytest.mark.large
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "tanh"])
def test_behind_what_the_converter_rounds_by_itself(small_network, through_int8, kind):
    """Its operators of a fixed range: it goes on in int8 from there, or rounds twice."""

    def function(image):
        x = L.Activation(kind, name="curve")(conv(image, strides=2))
        kept = L.Dense(8, name="kept")(L.Reshape((64, 16), name="moved")(x))
        return L.Dense(4)(L.Concatenate()([L.Flatten()(kept), L.Flatten()(conv(x))]))

    result = through_int8(small_network(function), keep_float=("curve", "moved", "kept"))
    producers = [tensor.producer for tensor in result.inspection.float_tensors]
    assert "FULLY_CONNECTED" in producers
    assert result.inspection.ops["LEAKY_RELU"] == 0, "no mark is left in the file"
    assert result.inspection.ops["QUANTIZE"] == 3  # the image, and what the int8 kernels read
    assert result.from_keras >= 50


@pytest.mark.large
@pytest.mark.parametrize("case, kind", [("sigmoid_values", L.Activation), ("gate", L.Conv2D)])
def test_what_the_converter_would_round_is_rounded_once(small_network, through_int8, case, kind):
    """A sigmoid or tanh in float that an int8 operator reads, on the grid that Keras learned."""
    model = network(small_network, case)
    kept = [layer.name for layer in model.layers if isinstance(layer, kind)][-1]
    result = through_int8(model, keep_float=kept)
    assert result.inspection.ops["QUANTIZE"] == 2  # the image, and what is kept in float
    assert result.from_keras >= 50


class Gate(L.Layer):
    """The converter knows what is inside; the tables do not."""

    def call(self, inputs):
        return keras.ops.sigmoid(inputs)


def test_behind_a_layer_that_is_in_no_table(small_network, through_int8):
    def function(image):
        x = Gate(name="gate")(conv(image, strides=2))
        return L.Dense(4)(L.Flatten()(L.Dense(8, name="kept")(L.Reshape((64, 16))(x))))

    result = through_int8(small_network(function), keep_float=("gate", "kept"))
    assert "FULLY_CONNECTED" in [tensor.producer for tensor in result.inspection.float_tensors]
    assert result.from_keras >= 50


def test_a_kernel_kept_float_behind_moves(small_network, through_int8):
    """What is only moved about between a rounding and the kernel does not make it int8."""
    model = small_network(lambda image: patches(conv(image, strides=2)))
    kept = next(layer.name for layer in model.layers if isinstance(layer, L.Dense))
    result = through_int8(model, keep_float=kept)
    producers = [tensor.producer for tensor in result.inspection.float_tensors]
    assert producers.count("FULLY_CONNECTED") == 1
    assert result.from_keras >= 50


def test_equal_operators_share_a_range(small_network):
    import keras_hybrid
    from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize

    model = keras_hybrid.quantize(network(small_network, "concatenate"))
    inputs = next(x for x in model.layers if type(x) is L.Concatenate).input
    rounders = {value._keras_history.operation for value in inputs}
    assert len(rounders) == 1 and type(rounders.pop()) is FakeQuantize


def test_keys_and_values_are_symmetric(small_network):
    import keras_hybrid
    from keras_hybrid.quantization.twins.attention import QuantizedDotProductAttention

    model = keras_hybrid.quantize(network(small_network, "sigmoid_values"))
    layer = next(x for x in model.layers if isinstance(x, QuantizedDotProductAttention))
    _, key, value = (x._keras_history.operation for x in layer.input)
    assert key.quantizer.symmetric and value.quantizer.symmetric
