"""Fine-tuning: learning rates by depth, frozen stages, where the weights come from."""

import dataclasses
import io
import re

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.training.data.subset import subset
from keras_hybrid.training.optimization.finetuning import load_initial_weights
from keras_hybrid.training.optimization.layer_depth import freeze_stages, layer_depths, layer_stages
from keras_hybrid.training.optimization.schedules import make_optimizer
from keras_hybrid.training.run.run import load_run, train

OPTIONS = {"weights": None, "input_shape": (64, 64, 3), "classes": 4}
# The last block of each stage, by the papers' tables.
BLOCKS = {
    "MobileFormer26M": {2: 2, 3: 2, 4: 3, 5: 2},
    "MobileViTXXS": {1: 1, 2: 3, 3: 2, 4: 2, 5: 2},
    "IFormerT": {1: 2, 2: 2, 3: 10, 4: 2},
}


@pytest.fixture(scope="module")
def networks():
    return {name: keras_hybrid.build_model(name, **OPTIONS) for name in BLOCKS}


def depth_of(name, layer):
    """Blocks counted by hand: all blocks of the stages before, then the block's own number."""
    blocks = BLOCKS[name]
    match = re.match(r"stage(\d)_(?:block(\d+)|downsample)", layer)
    if match:
        before = sum(count for stage, count in blocks.items() if stage < int(match[1]))
        return 1 + before + int(match[2] or 0)
    return 0 if layer.startswith(("stem", "tokens")) else 1 + sum(blocks.values())


@pytest.mark.parametrize("name", BLOCKS)
def test_depth_counts_blocks_from_stem_to_head(networks, name):
    depths = layer_depths(networks[name])
    assert depths == {layer: depth_of(name, layer) for layer in depths}
    assert set(depths.values()) == set(range(2 + sum(BLOCKS[name].values())))
    stages = layer_stages(networks[name])
    assert max(stages.values()) == 1 + max(BLOCKS[name])
    assert {stages[layer] for layer in depths if layer.startswith("stage3_")} == {3}


@pytest.mark.parametrize("name", BLOCKS)
def test_learning_rate_and_decay_fall_with_the_distance_from_the_head(networks, name, recipe):
    """AdamW's first step is the learning rate times the gradient's sign."""
    model = networks[name]
    recipe = dataclasses.replace(recipe, layer_decay=0.7, weight_decay=0.1, learning_rate=0.01)
    optimizer = make_optimizer(recipe, model, 10)
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    variables = model.trainable_variables
    optimizer.apply([np.ones(variable.shape, "float32") for variable in variables], variables)
    head = 1 + sum(BLOCKS[name].values())
    for variable in variables:
        old = before[variable.path]
        rate = 0.01 * 0.7 ** (head - depth_of(name, variable.path))
        decay = 0.1 * old if variable.name == "kernel" else 0.0
        np.testing.assert_allclose(
            variable.numpy(), old - rate * (1 + decay), rtol=1e-3, atol=1e-6, err_msg=variable.path
        )


def test_a_network_of_other_names_has_no_depths(tiny_network, recipe):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="output")])
    with pytest.raises(ValueError, match="with a layer 'output'"):
        layer_depths(model)


def staged_network(recipe, num_classes, any_size=False):
    """A network with the names of an iFormer, which trains in milliseconds."""

    def convolution(x, filters, name):
        x = keras.layers.Conv2D(filters, 4, strides=4, name=name)(x)
        return keras.layers.BatchNormalization(name=f"{name}_norm")(x)

    x = image = keras.Input((recipe.resolution, recipe.resolution, 3), name="image")
    for name in ("stem_conv", "stage1_block0_depthwise", "stage2_downsample"):
        x = convolution(x, 4, name)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.BatchNormalization(name="head_norm")(x)
    x = keras.layers.Dense(num_classes, name="head_fc")(x)
    x = keras.layers.Activation("softmax", name="predictions")(x)
    return keras.Model(image, x, name="staged")


@pytest.fixture
def staged(monkeypatch):
    from keras_hybrid.training.run import run

    monkeypatch.setattr(run, "new_network", staged_network)


@pytest.mark.large
def test_frozen_stages_keep_weights_and_statistics(recipe, source, tmp_path, staged):
    pretrained = train(recipe, source, tmp_path / "pretrained", stream=io.StringIO())
    tuning = dataclasses.replace(
        recipe,
        initial_weights=str(tmp_path / "pretrained"),
        frozen_stages=1,
        learning_rate=0.02,
        ema_momentum=0.5,
    )
    tuned = train(tuning, source, tmp_path / "tuned", stream=io.StringIO()).model
    for old, new in zip(pretrained.model.layers, tuned.layers, strict=True):
        assert new.trainable  # saved for any use
        for first, second in zip(old.weights, new.weights, strict=True):
            same = np.array_equal(first.numpy(), second.numpy())
            assert same == new.name.startswith(("stem", "stage1")), second.path
    reloaded = load_run(tmp_path / "tuned").model
    np.testing.assert_array_equal(reloaded.get_weights()[0], tuned.get_weights()[0])


def test_stages_that_are_not_there_are_refused(networks):
    for last in (5, 9):
        with pytest.raises(ValueError, match=f"stages 1 to 4, and 0.*frozen_stages={last}"):
            freeze_stages(networks["IFormerT"], last)


def test_a_classifier_is_kept_where_it_fits_and_replaced_where_not(
    recipe, source, tmp_path, staged
):
    trained = train(recipe, source, tmp_path / "run", stream=io.StringIO()).model
    for weights in (tmp_path / "run", tmp_path / "run" / "best.keras"):
        changed = dataclasses.replace(recipe, initial_weights=str(weights))
        model = staged_network(recipe, 4)
        load_initial_weights(model, changed)
        if weights.is_dir():  # the model after the last epoch
            for first, second in zip(trained.weights, model.weights, strict=True):
                np.testing.assert_array_equal(first.numpy(), second.numpy())

        other = staged_network(recipe, 7)
        with pytest.warns(UserWarning, match="head_fc keep their initial values"):
            load_initial_weights(other, changed)
        assert other.output_shape == (None, 7)
        np.testing.assert_array_equal(
            other.get_layer("stem_conv").kernel, model.get_layer("stem_conv").kernel
        )

        anew = staged_network(recipe, 4)
        fresh = anew.get_layer("head_fc").kernel.numpy()
        load_initial_weights(anew, dataclasses.replace(changed, new_classifier=True))
        np.testing.assert_array_equal(anew.get_layer("head_fc").kernel, fresh)
        np.testing.assert_array_equal(
            anew.get_layer("head_norm").moving_mean, model.get_layer("head_norm").moving_mean
        )


def test_weights_that_fit_no_run_are_refused(recipe, networks):
    with pytest.raises(ValueError, match="folder of a finished run is expected. Received: 'gone'"):
        load_initial_weights(
            networks["MobileViTXXS"], dataclasses.replace(recipe, initial_weights="gone")
        )
    apple = dataclasses.replace(recipe, model="MobileViTXXS", initial_weights="imagenet_apple")
    with pytest.raises(ValueError, match="which take BGR"):
        load_initial_weights(networks["MobileViTXXS"], apple)
    with pytest.raises(ValueError, match="`new_classifier` needs `initial_weights`"):
        dataclasses.replace(recipe, new_classifier=True)


def test_published_weights_are_loaded_by_tag(recipe, monkeypatch):
    import keras_hybrid.training.optimization.finetuning as finetuning

    calls = []

    def load_pretrained(model, preset, build):
        calls.append((preset.name, build().output_shape))

    monkeypatch.setattr(finetuning, "load_pretrained", load_pretrained)
    recipe = dataclasses.replace(recipe, model="MobileViTXXS", initial_weights="imagenet")
    load_initial_weights(staged_network(recipe, 4), recipe)
    assert calls == [("MobileViTXXS/imagenet", (None, 1000))]


def test_a_subset_has_its_own_labels_and_the_first_images(source):
    part = subset(source, ("d", "b"), images_per_class=3)
    assert part.class_names == ("d", "b") and part.sizes == {"train": 6, "test": 4}
    assert part.name == "greys, classes d b, 3 images a class"
    whole = [e for e in source.split("train").as_numpy_iterator() if e["label"] in (1, 3)]
    examples = list(part.split("train").as_numpy_iterator())
    assert [e["image"] for e in examples] == [e["image"] for e in whole[:6]]
    assert [e["label"] for e in examples] == [{3: 0, 1: 1}[e["label"]] for e in whole[:6]]
    assert len(list(part.split("test"))) == 4 == int(part.split("test").cardinality())
    for classes, message in ((("e",), r"classes=\('e',\)"), (("a", "a"), "another one of")):
        with pytest.raises(ValueError, match=message):
            subset(source, classes)
    with pytest.raises(ValueError, match="has 8 training images. Received: images_per_class=9"):
        subset(source, ("a",), 9)
