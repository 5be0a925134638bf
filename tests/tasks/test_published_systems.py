"""Published systems by name: tags, addresses, files in every naming, and what is remembered."""

import numpy as np
import pytest
from harness import randomise

import keras_hybrid
from keras_hybrid.weights.checkpoints.save import published_state_dict, write_checkpoint
from keras_hybrid.weights.preprocessing import preprocessing_of
from keras_hybrid.weights.presets import find_preset
from keras_hybrid.weights.pretrained.pretrained import cache_folder

SIZE = {"input_shape": (64, 64, 3)}


def fetched_by_hand(preset, model, naming):
    """The preset's file in the cache, as one that was downloaded."""
    folder = cache_folder(preset)
    folder.mkdir(parents=True)
    write_checkpoint(model, folder / preset.homes[0].file, naming)


@pytest.mark.large
@pytest.mark.parametrize(
    "name, tag, naming, options",
    [
        ("DeepLabV3MobileViTXXS", "voc", "hugging_face", {}),
        ("DeepLabV3MobileViTXXS", "voc_authors", "authors", {}),
        (
            "DeepLabV3MobileViTS",
            "voc_stride8",
            "authors, v0.2",
            {"output_stride": 8, "auxiliary": True},
        ),
        ("SemanticFPNIFormerM", "ade20k", "mmengine", {}),
        ("MaskRCNNIFormerM", "coco", "mmengine", {}),
    ],
)
def test_a_tag_loads_its_home_s_file(name, tag, naming, options, tmp_path, monkeypatch, require):
    require(module="torch")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    preset = find_preset(name, tag)
    builder = getattr(keras_hybrid, name)
    source = randomise(builder(**SIZE, **options))
    fetched_by_hand(preset, source, naming)
    model = builder(weights=tag, **SIZE, **options)
    for ours, theirs in zip(model.weights, source.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert preprocessing_of(model) == preset.preprocessing
    smaller = {key: value for key, value in options.items() if key != "auxiliary"}
    with pytest.warns(UserWarning, match="logits keep their initial values"):
        tuned = builder(weights=tag, classes=5, **SIZE, **smaller)  # from the cache
    first = next(x.name for x in tuned.layers if x.weights)
    np.testing.assert_array_equal(
        tuned.get_layer(first).get_weights()[0], source.get_layer(first).get_weights()[0]
    )


def test_addresses_and_figures(monkeypatch):
    monkeypatch.delenv("KERAS_HYBRID_APPLE_ENDPOINT", raising=False)
    authors = find_preset("DeepLabV3MobileViTS", "voc_authors")
    assert authors.homes[0].url == (
        "https://docs-assets.developer.apple.com/ml-research/models/cvnets/segmentation/"
        "deeplabv3_mobilevit_s.pt"
    )
    monkeypatch.setenv("KERAS_HYBRID_APPLE_ENDPOINT", "https://mirror.example/")
    assert authors.homes[0].url.startswith("https://mirror.example/cvnets/segmentation/")
    ade = find_preset("SemanticFPNIFormerL2", "ade20k")
    assert ade.homes[0].url.endswith("iFormer/releases/download/v0.9/iFormer_l2_iter_40000.pth")
    assert (ade.score, ade.metric, ade.dataset) == (46.2, "mIoU", "ADE20K")
    coco = find_preset("MaskRCNNIFormerL", "coco")
    assert coco.homes[0].url.endswith("iFormer/releases/download/v0.9/iFormer_l_epoch_12.pth")
    assert (coco.score, coco.metric, coco.dataset) == (42.2, "box AP", "COCO 2017")
    shown = {preset.name for preset in keras_hybrid.list_weights()}
    assert {"DeepLabV3MobileViTXS/voc", "SemanticFPNIFormerL/ade20k"} <= shown


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weights": "imagenet"}, r"has the published weights \['voc', 'voc_authors'\]"),
        ({"weights": "voc2"}, "no published weights of that tag"),
        ({"weights": 3}, "weights=3"),
    ],
)
def test_unknown_weights_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        keras_hybrid.DeepLabV3MobileViTXXS(**SIZE, **options)


@pytest.mark.large
def test_names_of_one_generation_are_not_the_other_s():
    """Both ways in each naming, bit for bit; what another naming has no place for is named."""
    model = randomise(keras_hybrid.DeepLabV3MobileViTXXS(classes=3, **SIZE))
    for naming in ("hugging_face", "authors", "authors, v0.2"):
        state = published_state_dict(model, naming)
        again = keras_hybrid.DeepLabV3MobileViTXXS(classes=3, **SIZE)
        keras_hybrid.load_checkpoint(again, state)
        for ours, theirs in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="no place for layers"):
        published_state_dict(model, "timm")
