"""`keras-hybrid predict` of segmentation networks: of which files, what it says and draws."""

import re
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_hybrid
from keras_hybrid.workflows.answers.segmenter import is_segmenter, open_segmenter

NAMES = ("nothing", "cup", "hat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, its files and two pictures of other sizes."""
    folder = tmp_path_factory.mktemp("masks")
    keras.utils.set_random_seed(1)
    backbone = keras_hybrid.MobileViTXXS(include_top=False, weights=None, input_shape=(64, 64, 3))
    model = keras_hybrid.deeplabv3(backbone, len(NAMES), aspp_channels=8)
    model.get_layer("logits").kernel.assign(1e3 * model.get_layer("logits").kernel)
    model.save(folder / "model.keras")
    for values, size in (("logits", "head"), ("labels", "image")):
        keras_hybrid.export_tflite(
            model,
            folder / f"{values}.tflite",
            preprocessing=True,
            output=values,
            mask_size=size,
            labels=NAMES,
        )
    for name, shape in (("a", (64, 64)), ("b", (50, 90))):
        small = np.random.default_rng(0).integers(0, 256, (3, 4, 3), "uint8")
        Image.fromarray(small).resize(shape[::-1]).save(folder / f"{name}.png")
    return folder


@pytest.mark.large
def test_files_give_the_masks_of_the_network(folder):
    model = keras.models.load_model(folder / "model.keras", compile=False)
    pictures = [folder / "a.png", folder / "b.png"]
    expected = keras_hybrid.segment(model, pictures)
    assert [x.shape for x in expected] == [(64, 64), (50, 90)]
    for name, least in (("model.keras", 1), ("logits.tflite", 0.999), ("labels.tflite", 0.98)):
        assert is_segmenter(str(folder / name)), name
        segmenter = open_segmenter(str(folder / name))
        for mask, wanted in zip(segmenter.predict(pictures), expected, strict=True):
            assert mask.shape == wanted.shape and np.mean(mask == wanted) >= least, name
    assert open_segmenter(str(folder / "labels.tflite")).labels == NAMES
    assert not is_segmenter("MobileViTXXS") and is_segmenter("SemanticFPNIFormerM/ade20k")
    for name in ("broken.keras", "broken.tflite"):
        (folder / name).write_bytes(b"no model")
        assert not is_segmenter(str(folder / name)), name
    with zipfile.ZipFile(folder / "other.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    assert not is_segmenter(str(folder / "other.keras"))


@pytest.mark.large
def test_what_predict_says_and_draws(folder, tmp_path, command):
    save, where = tmp_path / "answer.png", tmp_path / "where.png"
    status, printed, _ = command(
        "predict",
        folder / "model.keras",
        folder / "b.png",
        f"--save={save}",
        f"--attention={where}",
    )
    assert status == 0 and re.search(r"b\.png  class \d \d+\.\d%", printed)
    assert Image.open(save).size[0] > 500 and Image.open(where).size[0] > 100
    status, printed, _ = command("predict", folder / "logits.tflite", folder, "--top=1")
    assert status == 0 and printed.count("%") == 2 and printed.split("%")[0].split()[1] in NAMES
    status, _, said = command(
        "predict", folder / "logits.tflite", folder / "a.png", f"--attention={where}"
    )
    assert status == 2 and "needs the Keras model" in said


@pytest.mark.large
def test_cost_and_attention_of_dense_networks(folder):
    """Multiply-adds by part, head apart; maps of every attention, on the map that it sees."""
    model = keras.models.load_model(folder / "model.keras", compile=False)
    cost = keras_hybrid.summarize_cost(model)
    assert "head" in str(cost)
    assert keras_hybrid.count_multiply_adds(model) > 0
    maps = keras_hybrid.attention_maps(model, np.zeros((2, 64, 64, 3), "float32"))
    assert len(maps) == 9 and all(len(x.weights) == 2 for x in maps)
    assert maps[-1].query_shape == (2, 2)
