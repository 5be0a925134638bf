"""What the authors trained with, row by row: the published recipes say it, and it acts.

What a number does in closed form is tested where the code is: schedules, AdamW and decay in
`optimization/`, RandAugment, crops and mixing in `augmentation/`, starts in
`models/test_initial_weights.py`.
"""

import dataclasses

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.training.distribution.distribution import Distribution
from keras_hybrid.training.distribution.mirrored import Mirrored
from keras_hybrid.training.optimization.schedules import learning_rate_schedule
from keras_hybrid.training.recipe.recipe import load_recipe

# Row, recipes, and what they say. F5, F9 and F10 are no numbers of a recipe.
ROWS = {
    "F1 RandAugment without inc": ("mobile_former/294M", {"randaugment_increasing": False}),
    "F1 no RandAugment for 52M": ("mobile_former/52M", {"randaugment_magnitude": None}),
    "F1 inc for iFormer": ("iformer/M", {"randaugment_increasing": True}),
    "F2 label smoothing": ("mobile_former/26M", {"label_smoothing": 0.1}),
    "F3 warm-up, floor, cool-down": (
        "mobile_former/26M",
        {
            "warmup_epochs": 3,
            "warmup_learning_rate": 1e-4,
            "final_learning_rate": 1e-5,
            "cooldown_epochs": 10,
            "epochs": 460,
        },
    ),
    "F4 dropout in the transformer": (
        "mobilevit/S",
        {"model_options": {"transformer_dropout_rate": 0.1}},
    ),
    "F6 decay of everything": ("mobilevit/XS", {"decayed": ("all",)}),
    "F7 crops": ("mobilevit/XXS", {"interpolation": "bilinear", "crop_fraction": 256 / 288}),
    "F8 drop path of L": ("iformer/L", {"drop_path_rate": 0.1}),
    "F8 none of M": ("iformer/M", {"drop_path_rate": 0.0}),
    "F11 decay of tokens": ("mobile_former/508M", {"decayed": ("kernels", "tokens")}),
    "F12 decay of H's layer scale": ("iformer/H", {"decayed": ("kernels", "layer_scales")}),
    "F14 draws of mixup": ("mobile_former/151M", {"mixing_group": 128}),
    "F15 bicubic moves": (
        "iformer/S",
        {"randaugment_interpolation": "bicubic", "interpolation": "bicubic"},
    ),
    "F15 random interpolation": (
        "mobile_former/96M",
        {"randaugment_interpolation": "random", "interpolation": "random"},
    ),
    "F16 schedule by epoch": ("mobile_former/26M", {"schedule_unit": "epoch"}),
    "F16 MobileViT, too": ("mobilevit/S", {"schedule_unit": "epoch"}),
    "F17 batch of H": ("iformer/H", {"learning_rate": 8e-3, "batch_size": 4096}),
    "F18 warm-up in steps": ("mobilevit/S", {"warmup_steps": 3000, "warmup_learning_rate": 2e-4}),
}


def published(root, name):
    family, variant = name.split("/")
    return load_recipe(root / "recipes" / "imagenet" / f"{family}.py", variant)


@pytest.mark.parametrize("row", ROWS)
def test_a_recipe_is_the_authors(root, row):
    name, numbers = ROWS[row]
    recipe = dataclasses.asdict(published(root, name))
    assert {field: recipe[field] for field in numbers} == numbers


def test_mobile_formers_rate_over_its_460_epochs(root):
    """F3 and F16, in closed form: timm's cosine of 450 epochs from the run's start."""
    recipe = published(root, "mobile_former/26M")
    schedule = learning_rate_schedule(recipe, 1251)

    def rate(epoch):
        return 1e-5 + (8e-4 - 1e-5) * (1 + np.cos(np.pi * epoch / 450)) / 2

    for epoch, expected in (
        (0, 1e-4),
        (1, 1e-4 + (8e-4 - 1e-4) / 3),
        (3, rate(3)),
        (225, rate(225)),
        (449, rate(449)),
        (455, 1e-5),
    ):
        for step in (0, 1250):  # all of an epoch
            found = float(schedule(epoch * 1251 + step))
            assert found == pytest.approx(expected, rel=1e-4), (epoch, step)


def test_mobilevits_transformers_drop_where_the_authors_do():
    """F4: after attention's projection and after the MLP; the published network has none."""
    options = {"weights": None, "input_shape": (64, 64, 3)}
    plain = keras_hybrid.MobileViTXXS(**options)
    dropping = keras_hybrid.MobileViTXXS(**options, transformer_dropout_rate=0.25)

    def drops(model):
        return {
            layer.name: layer.input._keras_history.operation.name
            for layer in model.layers
            if isinstance(layer, keras.layers.Dropout) and "transformer" in layer.name
        }

    assert drops(plain) == {}
    found = drops(dropping)
    assert len(found) == 2 * (2 + 4 + 3)  # two a layer, in three blocks of so many layers
    for name, before in found.items():
        kind = "attention" if "attention" in name else "mlp"
        assert f"_{kind}_" in before and isinstance(dropping.get_layer(before), keras.layers.Dense)
    for layer, other in zip(plain.weights, dropping.weights, strict=True):
        assert layer.shape == other.shape  # the same checkpoints fit
    dropped = dropping.get_layer(next(iter(found)))(np.ones((1, 4, 4, 4096), "float32"), training=1)
    assert float(keras.ops.mean(dropped == 0)) == pytest.approx(0.25, abs=0.02)


def test_batch_norms_see_one_device_or_all(recipe):
    """F13: of mirrored devices, the authors' norms see 128 images of one, ours all by default."""
    import small_training

    for per_device in (False, True):
        network = small_training.make_tiny_network(recipe, 4)
        changed = dataclasses.replace(recipe, batch_norm_per_device=per_device)
        Mirrored.join_layers(Distribution(), network, changed)
        assert network.get_layer("norm").synchronized is not per_device
