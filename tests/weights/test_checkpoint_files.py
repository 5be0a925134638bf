"""Every golden from files of every format and nesting; round trips of all sixteen networks."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_hybrid
from keras_hybrid.weights.checkpoints import load
from keras_hybrid.weights.checkpoints.checkpoint_files import read_published
from keras_hybrid.weights.checkpoints.save import published_state_dict, write_checkpoint

LARGE = ("mobile_former_294m", "iFormer_m_distill", "mobilevit_xxs_r288", "iFormer_t_layer_scale")
GOLDENS = [
    pytest.param(name, marks=[pytest.mark.large] if name in LARGE else [])
    for name in (
        "mobile_former_26m",
        "mobile_former_96m",
        "mobile_former_294m",
        "mobilevit_xxs",
        "mobilevit_xxs_r288",
        "mobilevit_xs_hf",
        "iFormer_t",
        "iFormer_t_layer_scale",
        "iformer_t_timm",
        "iFormer_m_distill",
    )
]
NESTINGS = [None, "model", "module", "state_dict", "state_dict_ema"]


def write_files(state_dict, folder, torch):
    """The state dict as `.safetensors`, and as `.pth` in each nesting, in one with each prefix."""
    save_file(state_dict, folder / "file.safetensors")
    yield folder / "file.safetensors"
    for nesting in NESTINGS:
        for prefix in ("", "module.", "backbone.") if nesting == "model" else ("",):
            tensors = {f"{prefix}{k}": torch.from_numpy(v.copy()) for k, v in state_dict.items()}
            path = folder / f"{nesting}{prefix}pth"
            path = path.with_name(f"{path.name.rstrip('.')}.pth")
            torch.save({nesting: tensors, "epoch": 1} if nesting else tensors, path)
            yield path
            path.unlink()


@pytest.mark.large
@pytest.mark.parametrize("name", GOLDENS)
def test_every_golden_from_files(golden, name, tmp_path, require):
    require(module="torch")
    torch = pytest.importorskip("torch")
    golden = golden(name)
    state_dict = golden.state_dict()
    model = golden.build()
    keras_hybrid.load_checkpoint(model, state_dict)
    assert golden.error(model) < 5e-5
    expected = model.get_weights()
    zeros = [np.zeros_like(array) for array in expected]
    for path in write_files(state_dict, tmp_path, torch):
        model.set_weights(zeros)
        keras_hybrid.load_checkpoint(model, path)
        for ours, mapped in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(ours, mapped, err_msg=path.name)
    assert golden.error(model) < 5e-5  # the last file's logits


def builders():
    large = ("MobileFormer214M", "MobileFormer294M", "MobileFormer508M", "IFormerM", "IFormerL")
    large += ("IFormerL2", "IFormerH", "MobileFormer151M", "IFormerS", "MobileViTS")
    for name in keras_hybrid.list_models():
        yield pytest.param(name, marks=[pytest.mark.large] if name in large else [])


def trainable_size(model, names, among=True):
    """How many trainable numbers the layers of these names have, or all but these."""
    layers = [layer for layer in model.layers if (layer.name in names) == among]
    return sum(np.prod(v.shape, dtype=int) for layer in layers for v in layer.trainable_variables)


@pytest.mark.parametrize("name", builders())
def test_round_trip_of_every_network_is_bit_equal(name):
    """And its size is the one in the table of published weights."""
    heads = {"distillation": True} if name in ("IFormerM", "IFormerL2") else {}
    model = keras_hybrid.build_model(name, weights=None, **heads)
    one_head = {"head_norm", "head_fc"}
    second_head = {"head_distillation_norm", "head_distillation_fc"}
    for preset in keras_hybrid.list_weights(name):
        size = trainable_size(model, second_head, among=False)
        size += trainable_size(model, one_head) if preset.distillation else 0
        assert size == preset.parameters, preset.name

    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.standard_normal(variable.shape, dtype="float32"))
    expected = {variable.path: np.asarray(variable) for variable in model.weights}
    for key_map in load.known_key_maps():
        if name.lower().startswith(key_map.family.replace("_", "")) and not key_map.dense:
            state_dict = published_state_dict(model, key_map.naming)
            for variable in model.weights:
                variable.assign(np.zeros(variable.shape, "float32"))
            keras_hybrid.load_checkpoint(model, state_dict)
            for variable in model.weights:
                np.testing.assert_array_equal(variable, expected[variable.path])


@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("mobile_former_26m", "authors"),
        ("mobilevit_xxs", "timm"),
        ("mobilevit_xs_hf", "hugging_face"),
        ("iFormer_t", "authors"),
        ("iformer_t_timm", "timm"),
    ],
)
def test_published_names_are_the_goldens(golden, name, naming):
    """All of them, counters included, so that PyTorch's strict loading takes the file."""
    golden = golden(name)
    state_dict = golden.state_dict()
    model = golden.build()
    keras_hybrid.load_checkpoint(model, state_dict)
    written = published_state_dict(model, naming)
    assert set(written) == set(state_dict)
    for key, array in state_dict.items():
        assert written[key].dtype == array.dtype
        np.testing.assert_array_equal(written[key], array, err_msg=key)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_published_files(golden, tmp_path, suffix, require):
    require(module="torch")
    golden = golden("iFormer_t")
    model = golden.build()
    keras_hybrid.load_checkpoint(model, golden.state_dict())
    path = tmp_path / f"ours{suffix}"
    write_checkpoint(model, path, "authors")
    found = read_published(path)
    for key, array in golden.state_dict().items():
        np.testing.assert_array_equal(found[key], array)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_publishing_refuses_what_cannot_be(golden, tmp_path):
    model = golden("mobilevit_xxs").build()
    with pytest.raises(ValueError, match=r"namings \('timm', 'hugging_face'\). Received: naming"):
        published_state_dict(model, "authors")
    with pytest.raises(ValueError, match="name ends in one of"):
        write_checkpoint(model, tmp_path / "x.onnx", "timm")
    with pytest.raises(ValueError, match="no folder"):
        write_checkpoint(model, tmp_path / "none" / "x.safetensors")
    with pytest.raises(ValueError, match="no published names"):
        write_checkpoint(model, tmp_path / "x.keras", "timm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.large
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_keras_files(golden, tmp_path, suffix):
    golden = golden("iFormer_t")
    model = golden.build()
    keras_hybrid.load_checkpoint(model, golden.state_dict())
    path = tmp_path / f"saved{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    again = golden.build(weights=path)  # through the builder
    assert golden.error(again) < 5e-5
    trunk = golden.build(weights=str(path), include_top=False)
    np.testing.assert_array_equal(trunk.get_layer("stem_conv1").kernel, model.layers[2].kernel)
    with pytest.raises(ValueError, match=rf"{suffix}.*Only the head differs.*head_norm/0"):
        keras_hybrid.load_checkpoint(trunk, path)
    with pytest.raises(ValueError, match="does not fit"):
        keras_hybrid.IFormerS(weights=path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"truncated or corrupt.*saved{suffix}"):
        keras_hybrid.load_checkpoint(model, path)


@pytest.mark.large
def test_heads_of_another_size_and_none(golden, tmp_path):
    golden = golden("iFormer_t")
    state_dict = golden.state_dict()
    tuned = golden.build(classes=7)
    before = np.asarray(tuned.get_layer("head_fc").kernel)
    with pytest.raises(ValueError, match=r"Only the head differs.*\(1000, 256\), the model needs"):
        keras_hybrid.load_checkpoint(tuned, state_dict)
    with pytest.warns(UserWarning, match="head_fc keep their initial values"):
        keras_hybrid.load_checkpoint(tuned, state_dict, allow_fresh_head=True)
    np.testing.assert_array_equal(tuned.get_layer("head_fc").kernel, before)
    np.testing.assert_array_equal(
        tuned.get_layer("head_norm").gamma, state_dict["classifier.classifier.bn.weight"]
    )
    headless = {k: v for k, v in state_dict.items() if not k.startswith("classifier.")}
    save_file(headless, tmp_path / "trunk.safetensors")
    with pytest.warns(UserWarning, match="head_norm, head_fc keep"):
        golden.build(weights=tmp_path / "trunk.safetensors")
    del headless["downsample_layers.0.0.c.weight"]
    with pytest.raises(ValueError, match="missing from the checkpoint: downsample_layers.0.0"):
        keras_hybrid.load_checkpoint(tuned, headless, allow_fresh_head=True)


@pytest.mark.large
def test_two_heads_merge_into_one(golden, tmp_path):
    golden = golden("iFormer_m_distill")
    state_dict = golden.state_dict()
    one = golden.build(distillation=False)
    keras_hybrid.load_checkpoint(one, state_dict)
    assert golden.error(one) < 5e-5
    two = golden.build()
    keras_hybrid.load_checkpoint(two, state_dict)
    two.save_weights(tmp_path / "two.weights.h5")
    one.set_weights([np.zeros_like(array) for array in one.get_weights()])
    keras_hybrid.load_checkpoint(one, tmp_path / "two.weights.h5")
    assert golden.error(one) < 5e-5
    del state_dict["classifier.classifier_dist.l.bias"]
    with pytest.raises(ValueError, match="not used by the model: classifier.classifier_dist"):
        keras_hybrid.load_checkpoint(one, state_dict)


def test_nothing_is_assigned_unless_everything_fits(golden):
    golden = golden("mobilevit_xxs")
    model = golden.build()
    before = model.get_weights()
    state_dict = golden.state_dict()
    state_dict["head.fc.bias"][3] = np.inf
    with pytest.raises(ValueError, match="not finite.*head_fc/bias"):
        keras_hybrid.load_checkpoint(model, state_dict)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="no place for layers"):
        keras_hybrid.load_checkpoint(model, {"features.0.conv.0.weight": np.zeros(1)})
    with pytest.raises(ValueError, match="class list"):
        keras_hybrid.load_checkpoint(model, [1, 2])


def test_goldens_are_all_here(root):
    names = {path.stem for path in (root / "tests" / "goldens").glob("*.json")}
    assert names == {parameter.values[0] for parameter in GOLDENS}
    for name in names:
        assert json.loads((root / "tests" / "goldens" / f"{name}.json").read_text())["logits"]
