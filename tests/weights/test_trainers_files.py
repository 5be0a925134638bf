"""Checkpoints as training programs save them, and files that only look like checkpoints."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.weights.checkpoints.checkpoint_files import read_keras, read_published
from keras_hybrid.weights.checkpoints.load import ChannelOrderWarning
from keras_hybrid.weights.checkpoints.save import published_state_dict


def build(**options):
    return keras_hybrid.MobileViTXXS(
        **({"weights": None, "classes": 5, "input_shape": (64, 64, 3)} | options)
    )


@pytest.fixture(scope="module")
def torch(require):
    require(module="torch")
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def trained():
    """A network whose every number is its own."""
    model = build()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.random(variable.shape, "float32"))
    return model


@pytest.fixture(scope="module")
def state(trained, torch):
    found = published_state_dict(trained, "timm")
    return {key: torch.from_numpy(array.copy()) for key, array in found.items()}


@pytest.fixture(scope="module")
def target():
    """What is loaded into; each test sets it to zeros."""
    return build()


def loads(target, source, trained, **options):
    target.set_weights([np.zeros_like(array) for array in target.get_weights()])
    keras_hybrid.load_checkpoint(target, source, **options)
    for ours, theirs in zip(target.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {
            "state_dict": prefixed(s, "model."),
            "pytorch-lightning_version": "2.4",
            "hyper_parameters": {"lr": 0.1},
        },
        lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}, "epoch": 3},
        lambda s: {"net": s, "acc": 90.1},
        lambda s: {"state_dict": s, "best_acc": np.float64(90.1), "history": np.arange(3.0)},
        lambda s: {"state_dict": prefixed(s, "module.model.net."), "step": np.int64(7)},
        lambda s: {"my_network": s, "optimizer": {"state": {0: {"step": 1}}}},
        lambda s: prefixed(s, "learner.module.encoder.") | {"epoch": 3},
        lambda s: prefixed(s, "_orig_mod.model."),
    ],
    ids=[
        "lightning",
        "model_state_dict",
        "net",
        "numpy",
        "prefixes",
        "own key",
        "flat",
        "compiled",
    ],
)
def test_where_trainers_put_a_network(torch, state, target, trained, tmp_path, wrap):
    torch.save(wrap(state), tmp_path / "last.ckpt")
    loads(target, tmp_path / "last.ckpt", trained)
    loads(target, wrap(state), trained)  # as `torch.load` gave it


def test_what_is_beside_the_network_is_left_out_with_a_warning(torch, state, target, trained):
    beside = {"criterion.weight": torch.ones(5), "aux_head.0.weight": torch.ones(3, 3)}
    with pytest.warns(UserWarning, match=r"left out: criterion\.weight, aux_head\.0\.weight"):
        loads(target, state | beside, trained)
    with pytest.warns(UserWarning, match=r"left out: loss\.weight"):
        loads(target, prefixed(state, "model.") | {"loss.weight": torch.ones(5)}, trained)
    with pytest.raises(ValueError, match=r"not used by the model: stages\.4\.2\.conv\.weight"):
        loads(target, state | {"stages.4.2.conv.weight": torch.ones(3)}, trained)


def test_a_network_and_its_moving_average_side_by_side(torch, state, target, trained):
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    both = prefixed(state, "model_ema.") | prefixed(zeros, "model.")
    loads(target, both, trained)
    loads(target, prefixed(zeros, "ema.") | prefixed(state, "model."), trained, prefer_ema=False)
    with pytest.raises(ValueError, match=r"several networks.*student.*teacher"):
        loads(target, prefixed(state, "student.") | prefixed(state, "teacher."), trained)


def test_names_of_networks_that_take_bgr_are_told(target, trained):
    with pytest.warns(ChannelOrderWarning, match="take BGR images as a rule"):
        loads(target, published_state_dict(trained, "hugging_face"), trained)


def test_torchscript_is_named(torch, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(ValueError, match=r"TorchScript program.*state_dict\(\)"):
        read_published(tmp_path / "program.pt")


def test_a_whole_pytorch_model_is_refused_with_the_cure(torch, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"refused.*model\.state_dict\(\)"):
        read_published(tmp_path / "whole.pth")


def test_objects_in_a_numpy_array_run_nothing(torch, state, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (tmp_path / "executed").write_text, ("x",)

    content = {"state_dict": state, "list": np.array([Hostile()], dtype=object)}
    torch.save(content, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match="nothing in it was run"):
        read_published(tmp_path / "hostile.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_files_of_tf_keras_are_named(tmp_path, suffix):
    path = tmp_path / f"old{suffix}"
    if suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
            archive.writestr("model.weights.h5", b"")
    else:
        with h5py.File(path, "w") as file:
            file.attrs["keras_version"] = "2.15.0"
            file.create_group("model_weights")
    with pytest.raises(ValueError, match=r"written by Keras 2\.15\.0.*tf_keras"):
        read_keras(path)


def test_a_whole_model_in_hdf5(trained, target, tmp_path):
    trained.save(tmp_path / "model.h5")
    loads(target, tmp_path / "model.h5", trained)


@pytest.fixture(scope="module")
def trunk():
    return build(include_top=False, pooling="avg")


@pytest.fixture(scope="module")
def nested(trunk):
    """Keras' own way of transfer learning: the trunk is a layer."""
    image = keras.Input((64, 64, 3))
    return keras.Model(image, keras.layers.Dense(5, name="mine")(trunk(image)))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_trunk_out_of_a_nested_model(nested, trunk, tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    nested.save(path) if suffix == ".keras" else nested.save_weights(path)
    fresh = build(include_top=False, pooling="avg")
    with pytest.warns(UserWarning, match="left out: mine/0, mine/1"):
        keras_hybrid.load_checkpoint(fresh, path)
    for ours, theirs in zip(fresh.get_weights(), trunk.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_published_trunk_into_a_nested_model(trained, nested):
    headless = {
        key: value
        for key, value in published_state_dict(trained, "timm").items()
        if not key.startswith(("head.", "final_conv."))
    }
    trunk = nested.layers[1]
    inner = keras.Model(nested.input, trunk(nested.input))  # without the user's own head
    keras_hybrid.load_checkpoint(inner, headless)
    np.testing.assert_array_equal(
        trunk.get_layer("stem_conv").kernel, trained.get_layer("stem_conv").kernel
    )


def test_two_trunks_of_one_name_are_refused(nested, tmp_path):
    image = keras.Input((64, 64, 3))
    one, other = (build(include_top=False, pooling="avg", name=name) for name in ("a", "b"))
    twice = keras.Model(image, keras.layers.Add()([one(image), other(image)]))
    twice.save_weights(tmp_path / "twice.weights.h5")
    with pytest.raises(ValueError, match="several layers of one name"):
        keras_hybrid.load_checkpoint(twice, tmp_path / "twice.weights.h5")
    siamese = keras.Model(image, keras.layers.Add()([one(image), one(image)]))
    siamese.save_weights(tmp_path / "siamese.weights.h5")
    keras_hybrid.load_checkpoint(siamese, tmp_path / "siamese.weights.h5")
