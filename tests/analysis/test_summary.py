"""Cost by part and by stage: it sums to the whole, and is what the papers say."""

import inspect

import keras
import pytest
from published import PUBLISHED

import keras_hybrid
from keras_hybrid.analysis.ablations import ABLATIONS, find_ablation

# Every option that changes a graph.
OPTIONS = {
    "Mobile only": ("MobileFormer26M", {"former": False}),
    "ReLU": ("MobileFormer26M", {"dynamic_relu": False}),
    "kernel 5": ("MobileFormer26M", {"kernel_size": 5}),
    "tokens": ("MobileFormer26M", {"num_tokens": 2, "token_dim": 64}),
    "no FFN": ("MobileFormer26M", {"ffn": False}),
    "MLP": ("MobileFormer26M", {"attention": "mlp"}),
    "no head": ("MobileFormer26M", {"include_top": False}),
    "patch 4": ("MobileViTXXS", {"patch_size": 4, "drop_path_rate": 0.1}),
    "SHA": ("IFormerT", {"attention": "sha", "position_encoding": False}),
    "MHA": ("IFormerT", {"attention": "mha", "query_key_reduction": 1, "ffn_expansion": 4}),
    "SiLU": ("IFormerT", {"attention_activation": "silu", "attention_norm": "layer"}),
    "share": ("IFormerT", {"attention_share": 0.22, "stage4_attention": False}),
    "patchify": ("IFormerT", {"kernel_size": 3, "stem": "patchify"}),
    "windows": ("IFormerT", {"window_size": 3, "layer_scale": 1e-6}),
    "distillation": ("IFormerT", {"distillation": True}),
}
PARTS = {
    "MobileFormer": {"Mobile", "Former", "Mobile->Former", "Mobile<-Former"},
    "MobileViT": {"convolution blocks", "attention blocks"},
    "IFormer": {"convolution blocks", "attention blocks"},
}


def whole(model):
    return sum(weight.numpy().size for weight in model.trainable_weights)


def check_sums(summary, parameters, multiply_adds):
    for by in ("part", "stage", "layer"):
        records = summary.records(by)
        assert sum(record["parameters"] for record in records) == parameters
        assert sum(record["multiply_adds"] for record in records) == multiply_adds
        assert sum(record["multiply_adds_share"] for record in records) == pytest.approx(1)
        assert all(record[by] != "other" for record in records)


def by_part(summary):
    return {cost.name: cost for cost in summary.by_part}


@pytest.mark.large
@pytest.mark.parametrize("name", PUBLISHED)
def test_parts_and_stages_sum_to_the_published_whole(name):
    parameters, millions = PUBLISHED[name]
    model = keras_hybrid.build_model(name, weights=None)
    summary = keras_hybrid.summarize_cost(model)
    check_sums(summary, parameters, keras_hybrid.count_multiply_adds(model))
    assert summary.multiply_adds / 1e6 == pytest.approx(millions, abs=0.051)
    assert summary.input_size == model.input_shape[1:3]
    family = next(family for family in PARTS if name.startswith(family))
    assert set(by_part(summary)) - PARTS[family] <= {"stem", "convolution blocks", "head"}
    assert PARTS[family] <= set(by_part(summary))
    stages = [cost.name for cost in summary.by_stage]
    assert stages[-1] == "head" and "stem" in stages and "stage4" in stages


@pytest.mark.large
@pytest.mark.parametrize("option", OPTIONS)
def test_parts_sum_to_the_whole_for_every_option(option):
    name, options = OPTIONS[option]
    model = keras_hybrid.build_model(name, weights=None, input_shape=(96, 64, 3), **options)
    summary = keras_hybrid.summarize_cost(model)
    check_sums(summary, whole(model), keras_hybrid.count_multiply_adds(model))
    found = by_part(summary)
    if option == "Mobile only":
        assert not {"Former", "Mobile->Former", "Mobile<-Former"} & set(found)
    assert ("head" in found) == (option != "no head")


@pytest.mark.large
def test_mobile_former_294m_is_what_the_paper_says():
    model = keras_hybrid.MobileFormer294M(weights=None)
    found = by_part(keras_hybrid.summarize_cost(model))
    # Section 5.2: "Former and the bridge only consume 12 % of the overall budget (35M / 294M)",
    # which is what Mobile alone does not cost, DY-ReLU's slopes and element-wise work included.
    whole_network = sum(cost.multiply_adds for cost in found.values())
    own = sum(found[part].multiply_adds for part in PARTS["MobileFormer"] - {"Mobile"})
    assert own / whole_network == pytest.approx(0.112, abs=0.001)
    alone = keras_hybrid.summarize_cost(keras_hybrid.MobileFormer294M(weights=None, former=False))
    difference = (whole_network - alone.multiply_adds) / 1e6
    assert difference == pytest.approx(35, rel=0.05)
    assert difference / (whole_network / 1e6) == pytest.approx(0.12, abs=0.005)
    # Section 5.4: the head holds 40 % of the parameters, 4.6M of 11.4M.
    assert found["head"].parameters / 1e6 == pytest.approx(4.6, rel=0.04)
    assert found["head"].parameters / 11_422_648 == pytest.approx(0.40, abs=0.02)


@pytest.mark.large
def test_iformer_table_7_moves_cost_from_convolution_to_attention_blocks():
    """The change from the table's first row to another is what the paper's rows differ by."""
    rows = {row.label: row for row in ABLATIONS["iformer/table7"].rows}
    baseline, last = rows["Baseline"], rows["50 % of stage 3 and stage 4 SHMA"]
    costs = {}
    for row in (baseline, last):
        model = keras_hybrid.IFormerM(weights=None, **row.options)
        costs[row.label] = summary = keras_hybrid.summarize_cost(model)
        assert summary.multiply_adds / 1e6 == pytest.approx(row.multiply_adds, rel=0.02)
        assert summary.parameters / 1e6 == pytest.approx(row.parameters, rel=0.04)
        shown = "attention blocks" in by_part(summary)
        assert shown == (row is not baseline)
    before, after = (by_part(costs[row.label]) for row in (baseline, last))
    assert after["convolution blocks"].parameters < before["convolution blocks"].parameters
    assert after["stem"] == before["stem"] and after["head"] == before["head"]


@pytest.mark.large
def test_a_loaded_a_nested_and_a_foreign_model(tmp_path):
    trunk = keras_hybrid.MobileFormer26M(weights=None, include_top=False, pooling="avg")
    trunk.save(tmp_path / "trunk.keras")
    loaded = keras.models.load_model(tmp_path / "trunk.keras")
    direct = keras_hybrid.summarize_cost(trunk, input_size=64)
    assert keras_hybrid.summarize_cost(loaded, (64, 64)).layers == direct.layers
    nested = keras.Sequential(
        [keras.Input((64, 64, 3)), loaded, keras.layers.Dense(5, name="classes")]
    )
    summary = keras_hybrid.summarize_cost(nested)
    assert by_part(summary)["Former"] == by_part(direct)["Former"]
    assert by_part(summary)["other"].multiply_adds == 5 * trunk.output_shape[-1]
    assert summary.parameters == whole(nested)
    assert summary.multiply_adds == direct.multiply_adds + 5 * trunk.output_shape[-1]


def test_a_model_used_twice_costs_two_calls_and_its_weights_once():
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1, name="stem_conv")]
    )
    twice = keras.Model(image, inner(inner(image)))
    summary = keras_hybrid.summarize_cost(twice)
    assert (summary.parameters, summary.multiply_adds) == (12, 2 * 64 * 9)


@pytest.mark.large
def test_tables_and_their_errors():
    model = keras_hybrid.MobileViTXXS(weights=None, input_shape=(None, None, 3))
    with pytest.raises(ValueError, match="input_size=None"):
        keras_hybrid.summarize_cost(model)
    summary = keras_hybrid.summarize_cost(model, 64)
    text = str(summary)
    assert "mobilevit_xxs, one image of 64 x 64 pixels" in text
    assert f"{summary.multiply_adds:,}" in text and "attention blocks" in text
    whole_line = next(line for line in text.splitlines() if line.startswith("whole"))
    assert whole_line.split()[1] == "1,272,024" and whole_line.count("100.0%") == 2
    assert {"layer", "kind", "part", "stage"} <= set(summary.records("layer")[0])
    with pytest.raises(ValueError, match="Received: by='block'"):
        summary.records("block")
    with pytest.raises(ValueError, match="functional"):
        keras_hybrid.summarize_cost("MobileViTXXS")


def test_every_row_of_an_ablation_table_can_be_built():
    for ablation in ABLATIONS.values():
        accepted = inspect.signature(getattr(keras_hybrid, ablation.model)).parameters
        for row in ablation.rows:
            assert set(row.options) <= set(accepted), row.label
        assert len({row.label for row in ablation.rows}) == len(ablation.rows)
    with pytest.raises(ValueError, match="Did you mean `iformer/table7`"):
        find_ablation("iformer/tabel7")
