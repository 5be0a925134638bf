"""A family of somebody else's: a builder, a key map and a preset, and no file of the library."""

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import save_file

import keras_hybrid
from keras_hybrid.layer_names import LayerName
from keras_hybrid.models.builder import finish_model, image_input, make_builder, predictions
from keras_hybrid.models.catalogue import builder_family
from keras_hybrid.training.optimization.layer_depth import freeze_stages, layer_depths
from keras_hybrid.weights import families
from keras_hybrid.weights.checkpoints.key_maps import KeyMap, Module
from keras_hybrid.weights.checkpoints.save import published_state_dict
from keras_hybrid.weights.family import Family, Preprocessing, Preset
from keras_hybrid.weights.pretrained.homes import HuggingFace

GREY = Preprocessing(64, 0.5, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def tiny(
    variant: str,
    include_top: bool = True,
    weights: str | None = "imagenet",
    input_shape: tuple | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
) -> keras.Model:
    """A stem, a block and a classifier."""
    image = image_input(None, input_shape, 64, include_top)
    x = layers.Conv2D({"S": 4}[variant], 3, strides=2, name="stem_conv")(image)
    x = layers.Conv2D(8, 3, strides=2, name=str(LayerName.in_block(1, 0, "tiny")))(x)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        x = predictions(layers.Dense(classes, name="head_fc")(x), classifier_activation)
    return finish_model(image, x, name or f"tiny_{variant.lower()}", weights)


TinyS = make_builder(tiny, "S", "TinyS", "A tiny network.")


def locate(layer_names):
    return {name: Module(f"net.{name}") for name in layer_names if not name.startswith("image")}


FAMILY = Family(
    name="tiny",
    module=__name__,
    builders=("TinyS",),
    own_layers=(str(LayerName.in_block(1, 0, "tiny")),),
    key_maps=(KeyMap("tiny", "authors", r"^net\.stem_conv\.", locate),),
    head_layers=("head_fc",),
    classifiers=("head_fc",),
    two_heads=None,
    preprocessing=GREY,
    presets=(
        Preset(
            "TinyS", "imagenet", "ImageNet-1k", GREY, 10.0, 1, "MIT", (HuggingFace("a/b", "t.bin"),)
        ),
    ),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))
    families.register(FAMILY)


def test_its_builder_and_preset_are_found():
    assert keras_hybrid.list_models()[-1] == "TinyS"
    model = keras_hybrid.build_model("TinyS", weights=None, classes=5)
    assert model.output_shape == (None, 5)
    assert families.family_of(model) is FAMILY
    assert builder_family("TinyS") == "tiny"
    assert [preset.name for preset in keras_hybrid.list_weights("TinyS")] == ["TinyS/imagenet"]
    white = np.full((1, 64, 64, 3), 255.0)
    for name in (model, "TinyS", "tiny", "TinyS/imagenet"):
        np.testing.assert_allclose(keras_hybrid.preprocess_input(white, name), 2.0, rtol=1e-6)
    with pytest.raises(ValueError, match="Did you mean `TinyS`"):
        keras_hybrid.build_model("TinyM")


def test_its_checkpoints_go_out_and_in(tmp_path):
    model = keras_hybrid.build_model("TinyS", weights=None, classes=5)
    path = tmp_path / "tiny.safetensors"
    save_file(published_state_dict(model, "authors"), path)
    other = keras_hybrid.build_model("TinyS", weights=str(path), classes=5)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.warns(UserWarning, match="head_fc"):
        keras_hybrid.build_model("TinyS", weights=str(path), classes=7)


def test_its_layers_have_depths_and_parts():
    model = keras_hybrid.build_model("TinyS", weights=None, classes=5)
    depths = layer_depths(model)
    assert list(depths.values()) == [0, 1, 2]
    freeze_stages(model, 0)
    assert [layer.name for layer in model.layers if layer.weights and not layer.trainable] == [
        "stem_conv"
    ]
    assert [cost.name for cost in keras_hybrid.summarize_cost(model).by_stage] == [
        "stem",
        "stage1",
        "head",
    ]


def test_what_is_missing_or_taken_is_told():
    given = {name: getattr(FAMILY, name) for name in FAMILY.__dataclass_fields__}
    with pytest.raises(TypeError, match="classifiers"):
        Family(**{name: value for name, value in given.items() if name != "classifiers"})
    with pytest.raises(ValueError, match="needs `own_layers`"):
        Family(**(given | {"own_layers": ()}))
    with pytest.raises(ValueError, match=r"'classifiers'|`classifiers`"):
        Family(**(given | {"classifiers": ("fc",)}))
    with pytest.raises(ValueError, match="registered already"):
        families.register(Family(**(given | {"name": "tiny2", "key_maps": ()})))
    families.register(FAMILY)  # the same again does no harm
