"""The published recipes carry the papers' numbers, and a dry run of each reads a batch."""

import dataclasses

import pytest

import keras_hybrid
from keras_hybrid.training.recipe.recipe import load_recipe


@pytest.fixture(scope="module")
def recipes(root):
    """(family, variant) -> recipe, for all of them."""
    variants = {
        "mobile_former": ("26M", "52M", "96M", "151M", "214M", "294M", "508M"),
        "mobilevit": ("XXS", "XS", "S"),
        "iformer": ("T", "S", "M", "L", "L2", "H"),
    }
    return {
        (family, variant): load_recipe(root / "recipes" / "imagenet" / f"{family}.py", variant)
        for family, names in variants.items()
        for variant in names
    }


def test_there_is_one_for_every_model(recipes):
    assert [recipe.model for recipe in recipes.values()] == keras_hybrid.list_models()


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        (
            ("mobile_former", "26M"),
            {
                "learning_rate": 8e-4,
                "weight_decay": 0.08,
                "dropout_rate": 0.1,
                "mixup": 0.2,
                "erase_probability": 0.0,
                "randaugment_magnitude": 9,
                "epochs": 460,
                "cooldown_epochs": 10,
                "final_learning_rate": 1e-5,
                "label_smoothing": 0.1,
                "randaugment_increasing": False,
                "batch_size": 1024,
            },
        ),
        (("mobile_former", "52M"), {"randaugment_magnitude": None, "weight_decay": 0.1}),
        (("mobile_former", "96M"), {"mixup": 0.0, "dropout_rate": 0.2}),
        (
            ("mobile_former", "508M"),
            {"learning_rate": 1e-3, "weight_decay": 0.2, "erase_probability": 0.2},
        ),
        (
            ("mobilevit", "XS"),
            {
                "learning_rate": 2e-3,
                "final_learning_rate": 2e-4,
                "warmup_steps": 3000,
                "weight_decay": 0.01,
                "ema_momentum": 0.9995,
                "epochs": 300,
                "randaugment_magnitude": None,
                "label_smoothing": 0.1,
            },
        ),
        (
            ("iformer", "M"),
            {
                "learning_rate": 4e-3,
                "batch_size": 4096,
                "warmup_epochs": 20,
                "cutmix": 1.0,
                "mixup": 0.8,
                "erase_probability": 0.25,
                "ema_momentum": None,
                "drop_path_rate": 0.0,
            },
        ),
        (("iformer", "H"), {"learning_rate": 8e-3, "drop_path_rate": 0.6}),
        (("iformer", "L"), {"drop_path_rate": 0.1, "randaugment_interpolation": "bicubic"}),
        (("mobilevit", "S"), {"interpolation": "bilinear", "crop_fraction": 256 / 288}),
    ],
    ids=str,
)
def test_the_papers_numbers(recipes, key, numbers):
    actual = dataclasses.asdict(recipes[key])
    assert {name: actual[name] for name in numbers} == numbers


@pytest.mark.parametrize("family", ["mobile_former", "mobilevit", "iformer"])
def test_an_unknown_variant_is_refused(root, family):
    with pytest.raises(ValueError, match="Received: variant='XXL'"):
        load_recipe(root / "recipes" / "imagenet" / f"{family}.py", "XXL")


@pytest.mark.large
def test_a_dry_run_prints_steps_rates_memory_and_a_batch(root, require, tmp_path):
    require(module="tensorflow_datasets")
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.recipe.recipe import override
    from keras_hybrid.training.run.dry_run import dry_run

    digits = open_source("digits", str(tmp_path))
    recipe = load_recipe(root / "recipes" / "imagenet" / "iformer.py", "T")
    recipe = override(recipe, ["resolution=64", "batch_size=64", "accumulation_steps=4"])
    text = dry_run(recipe, digits)
    assert "22 steps an epoch of 64 images, 6,600 in all; 88 batches of 16 images" in text
    assert "learning rate (peak 6.250e-05)" in text
    assert "step         0  0.000e+00" in text
    assert "2,632,026 trainable parameters" in text
    assert "images (16, 64, 64, 3)" in text and "labels (16, 10)" in text

    recipe = load_recipe(root / "recipes" / "imagenet" / "mobilevit.py", "XXS")
    recipe = override(recipe, ["batch_size=32", "scales=64,96", "resolution=64", "warmup_steps=9"])
    text = dry_run(recipe, digits)
    assert "batches of several scales: {64: 32, 96: 14}" in text
    assert "62 steps an epoch" in text


def test_distillation_adds_a_teacher_to_the_published_recipe(root, recipes):
    for variant in ("T", "S", "M", "L", "L2"):
        distilled = load_recipe(root / "recipes" / "distill" / "iformer.py", variant)
        expected = dataclasses.replace(
            recipes["iformer", variant],
            epochs=450 if variant == "L2" else 300,
            drop_path_rate=0.0,  # of L 0.1, where it has no teacher
            model_options={"distillation": True},
            teacher=distilled.teacher,
            teacher_loss="hard",
            teacher_share=0.5,
        )
        assert distilled == expected and distilled.teacher is not None
    with pytest.raises(ValueError, match="Received: variant='H'"):
        load_recipe(root / "recipes" / "distill" / "iformer.py", "H")


def test_fine_tuning_starts_from_published_weights(root, recipes):
    for (family, variant), published in recipes.items():
        tuned = load_recipe(root / "recipes" / "finetune" / f"{family}.py", variant)
        assert tuned.model == published.model and tuned.resolution == published.resolution
        assert keras_hybrid.list_weights(tuned.model) and tuned.initial_weights == "imagenet"
        assert tuned.layer_decay == 0.8 and tuned.epochs == 30
        assert tuned.weight_decay == published.weight_decay
        assert tuned.dropout_rate in (None, published.dropout_rate, 0.1)
        assert tuned.learning_rate < published.learning_rate
