"""`weights="imagenet"` against homes on loopback, for all three families."""

import io
import multiprocessing
import os

import numpy as np
import published
import pytest
from fill import fill
from safetensors.numpy import save

import keras_hybrid
from keras_hybrid.weights.checkpoints.load import ChannelOrderWarning
from keras_hybrid.weights.origin import preset_of
from keras_hybrid.weights.presets import find_preset
from keras_hybrid.weights.pretrained import pretrained
from keras_hybrid.weights.pretrained.download import DownloadError


def pickled(state_dict, nesting=None):
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in state_dict.items()}
    file = io.BytesIO()
    torch.save({nesting: tensors, "epoch": 300} if nesting else tensors, file)
    return file.getvalue()


def stock(homes, golden):
    """Puts a golden's weights where its family's are published; the builder's name."""
    preset = find_preset(golden.builder, "imagenet")
    if golden.builder.startswith("MobileFormer"):
        content = pickled(
            {f"module.{key}": value for key, value in golden.state_dict().items()}, "state_dict"
        )
        homes.drive(preset.homes[0].id, content)
    else:
        homes.hugging_face(
            preset.homes[0].repository, preset.homes[0].file, save(golden.state_dict())
        )
    return preset


def kept(preset):
    folder = pretrained.cache_folder(preset)
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.mark.large
@pytest.mark.parametrize("name", ["mobile_former_26m", "mobilevit_xxs", "iformer_t_timm"])
def test_downloads_converts_and_asks_no_more(homes, golden, name, require):
    golden = golden(name)
    if golden.builder.startswith("MobileFormer"):
        require(module="torch")
    preset = stock(homes, golden)
    homes.cut_after = 1_000_000
    builder = getattr(keras_hybrid, golden.builder)
    model = builder(classifier_activation=None)  # "imagenet" is the default
    assert golden.error(model) < 5e-5
    assert preset_of(model) is preset
    assert homes.requests[-1][2] == "bytes=1000000-"
    file = preset.homes[0].file
    converted = next(name for name in kept(preset) if name.endswith(".weights.h5"))
    assert kept(preset) == sorted(
        [file, f"{file}.sha256.json", converted, f"{converted}.sha256.json"]
    )

    asked = len(homes.requests)
    trunk = builder(include_top=False, pooling="avg")
    with pytest.warns(UserWarning, match="keep their initial values and need training"):
        tuned = builder(classes=5)
    assert tuned.output_shape == (None, 5)
    loaded = {layer.name: layer.get_weights() for layer in model.layers}
    for layer in [*trunk.layers, *tuned.layers]:
        if layer.weights and layer.name not in ("head_fc", "head_fc2"):
            for ours, theirs in zip(layer.get_weights(), loaded[layer.name], strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert len(homes.requests) == asked


@pytest.mark.large
def test_detectors_come_with_their_weights(homes, require):
    """What is published for one number of classes starts a detector of another one."""
    require(module="torch")
    state = {
        name: fill(name, shape, 0, (0.5, 1.5))
        for name, shape in published.golden("dense/ssdlite_mobilevit_xs")["state_dict"]
    }
    preset = find_preset("SSDLiteMobileViTXS", "coco")
    homes.files[f"/{preset.homes[0].folder}/{preset.homes[0].file}"] = pickled(state)
    model = keras_hybrid.SSDLiteMobileViTXS("coco", input_shape=(64, 64, 3))
    assert preset_of(model) is preset
    image = np.zeros((1, 1, 3))
    image[..., 0] = 255
    assert keras_hybrid.preprocess_input(image, model).ravel().tolist() == [0, 0, 1]  # BGR
    kernel = state["extra_layers.os_64.pw_conv.block.conv.weight"]
    np.testing.assert_array_equal(
        model.get_layer("neck_level2_project").kernel, kernel.transpose(2, 3, 1, 0)
    )
    asked = len(homes.requests)
    with pytest.warns(UserWarning, match="head_level0_classes"):
        tuned = keras_hybrid.SSDLiteMobileViTXS("coco", input_shape=(64, 64, 3), classes=7)
    np.testing.assert_array_equal(
        tuned.get_layer("head_level5_boxes").kernel, model.get_layer("head_level5_boxes").kernel
    )
    assert len(homes.requests) == asked


@pytest.mark.large
def test_apples_files_keep_their_channel_order(homes, golden, recwarn):
    golden = golden("mobilevit_xs_hf")
    preset = find_preset("MobileViTXS", "imagenet_apple")
    homes.hugging_face("apple/mobilevit-x-small", "model.safetensors", save(golden.state_dict()))
    model = keras_hybrid.MobileViTXS(weights="imagenet_apple", classifier_activation=None)
    assert golden.error(model) < 5e-5
    assert not [warning for warning in recwarn if warning.category is ChannelOrderWarning]
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype("uint8")
    np.testing.assert_allclose(
        keras_hybrid.preprocess_input(image, model), image[..., ::-1] / 255, atol=1e-6
    )
    assert preset_of(model) is preset


@pytest.mark.large
def test_safetensors_before_pickles_and_pickles_without_them(homes, golden, require):
    require(module="torch")
    golden = golden("mobilevit_xxs")
    preset = find_preset("MobileViTXXS", "imagenet")
    content = pickled(golden.state_dict())
    homes.hugging_face(preset.homes[1].repository, "pytorch_model.bin", content)
    model = keras_hybrid.MobileViTXXS(classifier_activation=None)
    assert golden.error(model) < 5e-5
    assert "model.safetensors" in homes.requests[0][1]


@pytest.mark.large
def test_the_authors_release_and_its_mirror(homes, golden, require):
    require(module="torch")
    golden = golden("iFormer_t")
    homes.hugging_face(
        "BillionZheng/iFormer", "iFormer_t.pth", pickled(golden.state_dict(), "model")
    )
    model = keras_hybrid.IFormerT(weights="imagenet_authors", classifier_activation=None)
    assert golden.error(model) < 5e-5
    assert "/releases/download/v0.9/iFormer_t.pth" in homes.requests[0][1]


@pytest.mark.large
def test_distilled_weights_with_one_head_and_with_two(homes, golden, require):
    require(module="torch")
    golden = golden("iFormer_m_distill")
    homes.github(
        "ChuanyangZheng/iFormer",
        "v0.9",
        "iFormer_m_distill.pth",
        pickled(golden.state_dict(), "module"),
    )
    tag = "imagenet_distill_authors"
    one = keras_hybrid.IFormerM(weights=tag, classifier_activation=None)
    two = keras_hybrid.IFormerM(weights=tag, classifier_activation=None, distillation=True)
    assert golden.error(one) < 5e-5
    assert golden.error(two) < 5e-5
    assert two.count_params() > one.count_params()


@pytest.mark.large
def test_a_damaged_conversion_is_made_anew(homes, golden):
    golden = golden("mobilevit_xxs")
    preset = stock(homes, golden)
    keras_hybrid.MobileViTXXS()
    folder = pretrained.cache_folder(preset)
    (converted,) = folder.glob("*.weights.h5")
    converted.write_bytes(converted.read_bytes()[:5000])
    asked = len(homes.requests)
    assert golden.error(keras_hybrid.MobileViTXXS(classifier_activation=None)) < 5e-5
    assert len(homes.requests) == asked


def spoiled(golden, how):
    state_dict = golden.state_dict()
    key = "stem.conv.weight"
    if how == "nan":
        state_dict[key][0, 0, 0, 0] = np.nan
    elif how == "missing key":
        del state_dict[key]
    elif how == "extra key":
        state_dict["stem.conv.extra"] = np.zeros(3, "float32")
    elif how == "wrong model":
        state_dict[key] = state_dict[key][:8]
    elif how == "no network":
        state_dict = {"a": np.zeros(3, "float32")}
    content = save(state_dict)
    return content[: len(content) // 2] if how == "truncated" else content


@pytest.mark.large
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "not finite.*stem_conv"),
        ("missing key", "missing from the checkpoint: stem.conv.weight"),
        ("extra key", "not used by the model: stem.conv.extra"),
        ("wrong model", r"of another shape: stem.conv.weight is \(8, 3, 3, 3\)"),
        ("no network", "none of the published namings"),
        ("truncated", "truncated or corrupt.*delete it and fetch it again"),
    ],
)
def test_a_spoiled_file_is_refused_and_deleted(homes, golden, how, message):
    preset = find_preset("MobileViTXXS", "imagenet")
    home = preset.homes[0]
    homes.hugging_face(home.repository, home.file, spoiled(golden("mobilevit_xxs"), how))
    with pytest.raises(ValueError, match=message) as error:
        keras_hybrid.MobileViTXXS(weights="imagenet")
    assert home.file in str(error.value)
    assert kept(preset) == []


def test_a_hostile_pickle_is_refused_and_nothing_runs(homes, tmp_path, require):
    require(module="torch")
    import torch

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    file = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(3)}, "x": Hostile()}, file)
    preset = find_preset("MobileFormer26M", "imagenet")
    homes.drive(preset.homes[0].id, file.getvalue())
    with pytest.raises(ValueError, match="nothing in it was run .*mkdir"):
        keras_hybrid.MobileFormer26M()
    assert not (tmp_path / "executed").exists()
    assert kept(preset) == []


@pytest.mark.large
def test_options_that_change_the_published_layers_are_told(homes, golden):
    golden = golden("iformer_t_timm")
    preset = stock(homes, golden)
    with pytest.raises(ValueError, match="options that change the published layers"):
        keras_hybrid.IFormerT(attention="sha", weights="imagenet")
    assert preset.homes[0].file in kept(preset)  # the file is good


def test_disk_full_while_converting(homes, golden, monkeypatch):
    preset = stock(homes, golden("mobilevit_xxs"))
    keras = pytest.importorskip("keras")

    def no_room(model, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", no_room)
    with pytest.raises(DownloadError, match="cannot be written.*KERAS_HOME"):
        keras_hybrid.MobileViTXXS()
    assert kept(preset) == ["model.safetensors", "model.safetensors.sha256.json"]


@pytest.mark.parametrize("weights", ["imagenette", "imagenet_distill", 7, "no/such/file.pth"])
def test_weights_that_are_nothing(weights, homes):
    with pytest.raises(ValueError, match="Received: weights="):
        keras_hybrid.MobileViTXXS(weights=weights)
    assert homes.requests == []


def _fetch_in_process(queue):
    try:
        model = keras_hybrid.MobileViTXXS(classifier_activation=None)
        queue.put(float(np.sum(np.abs(model.get_weights()[0]))))
    except Exception as error:
        queue.put(repr(error))
        raise


@pytest.mark.large
def test_two_processes_fetch_the_same_file_at_once(homes, golden):
    golden = golden("mobilevit_xxs")
    stock(homes, golden)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_fetch_in_process, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    sums = [queue.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    expected = float(np.sum(np.abs(golden.state_dict()["stem.conv.weight"])))
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    downloads = [path for _, path, _ in homes.requests if path.startswith("/cdn")]
    assert len(downloads) == 1
