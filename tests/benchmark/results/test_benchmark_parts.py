"""Operators and the parts of a network: by name, by the graph, by order in a delegate."""

import numpy as np
import pytest

from keras_hybrid.benchmark.results import graph, parts


@pytest.mark.parametrize(
    "name, part",
    [
        ("[functional_1/stem_conv_1/Relu;functional_1/stem_conv_1/convolution]:0", "stem"),
        ("m/stage2_block0_mobile_conv1_1/convolution", "Mobile"),
        ("m/stage3_block1_mobile_to_former_query_1/MatMul", "Mobile->Former"),
        ("m/stage3_block1_former_to_mobile_key_1/MatMul", "Mobile<-Former"),
        ("m/stage3_block1_former_feed_forward_1/MatMul", "Former"),
        ("tokens_1/ReadVariableOp", "Former"),
        ("stage3_block2_attention_qkv_1/convolution", "attention blocks"),
        ("stage3_block2_feed_forward_expand/convolution", "attention blocks"),
        ("stage2_block0_depthwise_1/depthwise", "convolution blocks"),
        ("m/final_mobile_to_former_gate_1/Tensordot", "Mobile->Former"),
        ("m/stage3_block6_position_encoding_1/depthwise", "attention blocks"),
        ("head_dense1_1/MatMul", "head"),
        ("mobile_former_26m_1/stage4_block0_mobile_dynamic_relu/add", "Mobile"),
    ],
)
def test_layers_belong_to_parts(name, part):
    layer = graph.layer_name(name)
    assert layer and graph.part_of_layer(layer) == part


def test_operators_of_delegates_are_matched_with_the_models():
    nodes = [
        ("CONV_2D", "m/stem_conv_1/convolution"),
        ("DEPTHWISE_CONV_2D", "m/stage1_block0_mobile_depthwise/depthwise"),
        ("RESHAPE", "m/reshape"),
        ("FULLY_CONNECTED", "m/stage1_block0_former_feed/MatMul"),
        ("SOFTMAX", "StatefulPartitionedCall:0"),
        ("FULLY_CONNECTED", "m/head_logits/MatMul"),
    ]
    nodes = [graph.Node(kind, name, graph.layer_name(name)) for kind, name in nodes]
    operators = [
        {"kind": "AllocateTensors", "name": "AllocateTensors/0"},
        {"kind": "Convolution (NHWC, F32) IGEMM", "name": "Delegate/Convolution:0"},
        {"kind": "Convolution (NHWC, F32) DWConv", "name": "Delegate/Convolution:1"},
        {"kind": "Fully Connected (NC, F32) GEMM", "name": "Delegate/Fully:2"},
        {"kind": "Mystery (X)", "name": "Delegate/Mystery:3"},
        {"kind": "Fully Connected (NC, F32) GEMM", "name": "Delegate/Fully:4"},
    ]
    assert parts.attribute(operators, nodes) == [
        parts.RUNTIME, "stem", "Mobile", "Former", graph.UNKNOWN, "head",
    ]  # fmt: skip
    assert set(parts.attribute(operators)) == {parts.RUNTIME, graph.UNKNOWN}


def test_litert_2_3_names_kernels_of_delegates_in_their_kind():
    """All bear the name of the delegate's output: it tells the layer of none."""
    nodes = [
        graph.Node("CONV_2D", "m/stem_conv/convolution", "stem_conv"),
        graph.Node("FULLY_CONNECTED", "m/head_logits/MatMul", "head_logits"),
    ]
    name = "m/stage2_block0_mobile_add_1/Add:0"
    operators = [
        {"kind": "Delegate/Convolution (NHWC, F32) IGEMM", "name": name},
        {"kind": "Delegate/Mystery (X)", "name": name},
        {"kind": "Delegate/Fully Connected (NC, F32) GEMM", "name": name},
    ]
    assert parts.attribute(operators, nodes) == ["stem", graph.UNKNOWN, "head"]
    assert parts.family(operators[0]["kind"]) == "convolution"


def test_what_matches_nothing_is_given_to_no_part():
    nodes = [graph.Node("CONV_2D", f"m/stem_conv{n}/x", f"stem_conv{n}") for n in range(2)]
    operators = [
        {"kind": "Convolution", "name": "Delegate/Convolution:0"},
        {"kind": "Mystery", "name": "Delegate/Mystery:1"},
        {"kind": "Convolution", "name": "Delegate/Convolution:2"},
    ]
    assert parts.attribute(operators, nodes) == ["stem", graph.UNKNOWN, "stem"]


def test_what_xnnpack_runs_as_something_else_is_matched():
    nodes = [
        graph.Node("CONV_2D", "m/stem_conv/x", "stem_conv"),
        graph.Node("CONV_2D", "m/stage1_block0_mobile_conv1/x", "stage1_block0_mobile_conv1"),
        graph.Node("FULLY_CONNECTED", "m/head_logits/MatMul", "head_logits"),
    ]
    kinds = ["Convolution (NHWC, F32) IGEMM", *["Fully Connected (NC, F32) GEMM"] * 2]
    operators = [{"kind": f"Delegate/{kind}", "name": "x"} for kind in kinds]
    assert parts.attribute(operators, nodes) == ["stem", "Mobile", "head"]
    one = [operators[1]]  # one of the two: the one of its own name
    assert parts.attribute(one, nodes[1:]) == ["head"]
    assert parts.family("Delegate/Slice (ND, X32)") == "slice"
    assert parts.family("Delegate/Copy (NC, X32)") == "concatenation"


@pytest.fixture(
    scope="module",
    params=[
        "MobileFormer26M",
        pytest.param("MobileFormer52M", marks=pytest.mark.large),
        pytest.param("MobileFormer96M", marks=pytest.mark.large),
        pytest.param("MobileFormer151M", marks=pytest.mark.large),
        pytest.param("MobileViTXXS", marks=pytest.mark.large),
        pytest.param("IFormerT", marks=pytest.mark.large),
    ],
)
def trained(request, tmp_path_factory):
    """A network whose norms have scales and shifts of their own, and its file."""
    import keras_hybrid

    model = keras_hybrid.build_model(
        request.param, weights=None, classes=10, input_shape=(64, 64, 3)
    )
    generator = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights if "Norm" in type(layer).__name__ else ():
            value = weight.numpy() if hasattr(weight, "numpy") else np.asarray(weight)
            scale = generator.uniform(0.5, 1.5, value.shape)
            shift = 0.0 if "variance" in weight.path else generator.normal(0, 0.1, value.shape)
            weight.assign(value * scale + shift)
    path = tmp_path_factory.mktemp("trained") / "model.tflite"
    keras_hybrid.export_tflite(model, path)
    return model, path


def test_multiply_adds_by_part_are_the_keras_models(trained):
    """The converter names products after a trained norm by the norm: its readers tell the part."""
    from keras_hybrid.analysis.summary import summarize_cost

    model, path = trained
    summary = summarize_cost(model)
    expected = {group.name: group.multiply_adds for group in summary.by_part}
    for words in ("mobile_to_former_gate", "mobile_to_former_query"):
        of_tokens = [row for row in summary.layers if row["layer"].endswith(words)][:1]
        for row in of_tokens:  # the first reads the learned tokens alone: computed by the converter
            expected[row["part"]] -= row["multiply_adds"]
    expected = {part: count for part, count in expected.items() if count}
    assert graph.multiply_adds_by_part(path) == pytest.approx(expected, rel=1e-3)


PRODUCTS = ("convolution", "depthwise convolution", "fully connected", "matrix product")


def test_a_profile_finds_the_products_of_every_part(trained):
    """XNNPACK calls convolutions of one tap "Fully Connected": they are no strangers."""
    from keras_hybrid.benchmark.targets.host_profile import profile_host

    _, path = trained
    fields, _ = profile_host(path, runs=5)
    nodes = graph.read_graph(path)
    found = parts.attribute(fields["profile"], nodes)
    counts = {
        part: sum(
            own == part and parts.family(operator["kind"]) in PRODUCTS
            for operator, own in zip(fields["profile"], found, strict=True)
        )
        for part in {node.part for node in nodes}
    }
    expected = {
        part: sum(node.part == part and parts.family(node.kind) in PRODUCTS for node in nodes)
        for part in counts
    }
    assert counts == expected
    lost = sum(
        operator["ms"]
        for operator, part in zip(fields["profile"], found, strict=True)
        if part == graph.UNKNOWN
    )
    assert lost <= 0.05 * sum(operator["ms"] for operator in fields["profile"])
