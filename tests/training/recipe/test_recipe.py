"""Recipes: fields, overrides from the command line, recipe files."""

import dataclasses
import re

import pytest

from keras_hybrid.training.recipe.common import as_plain
from keras_hybrid.training.recipe.fields import between, describe_fields, number
from keras_hybrid.training.recipe.recipe import Recipe, load_recipe, override
from keras_hybrid.training.run.run import new_network


def test_overrides_are_read_as_their_fields_types(recipe):
    changed = override(
        recipe,
        [
            "epochs=12",
            "learning_rate=3e-4",
            "crop_area=0.3,0.9",
            "clip_norm=1",
            "jit_compile=false",
        ],
    )
    assert changed.epochs == 12 and isinstance(changed.epochs, int)
    assert changed.learning_rate == 3e-4
    assert changed.crop_area == (0.3, 0.9)
    assert changed.clip_norm == 1.0
    assert changed.jit_compile is False
    assert changed.seed == recipe.seed
    assert override(changed, ["clip_norm=none"]).clip_norm is None
    assert override(recipe, []) == recipe


def test_options_of_the_model_are_read_and_reach_the_builder(recipe):
    changed = override(recipe, ["model_options=former=false,num_tokens=2,attention=mha"])
    assert changed.model_options == {"former": False, "num_tokens": 2, "attention": "mha"}
    names = [layer.name for layer in new_network(changed, 4).layers]
    assert "tokens" not in names and "stage3_block0_mobile_relu1" in names
    with pytest.raises(ValueError, match="no option `formr`. Did you mean `former`"):
        new_network(override(recipe, ["model_options=formr=false"]), 4)
    with pytest.raises(ValueError, match="`model_options` takes dict"):
        override(recipe, ["model_options=former"])
    with pytest.raises(ValueError, match=r"without \['classes', 'epochs'\]"):
        override(recipe, ["model_options=classes=3,epochs=4"])


def test_an_unknown_name_is_refused_with_the_nearest(recipe):
    with pytest.raises(
        ValueError, match=r"Did you mean `learning_rate`\? Received: 'learning_rat="
    ):
        override(recipe, ["learning_rat=1"])
    with pytest.raises(ValueError, match="no `qqqq`. Received"):
        override(recipe, ["qqqq=1"])


@pytest.mark.parametrize(
    "assignment",
    ["epochs=1.5", "epochs=none", "learning_rate=fast", "crop_area=0.5", "jit_compile=yes"],
)
def test_a_value_of_another_type_is_refused(recipe, assignment):
    with pytest.raises(ValueError, match=assignment.partition("=")[0] + "` takes"):
        override(recipe, [assignment])
    with pytest.raises(ValueError, match="reads `name=value`"):
        override(recipe, ["epochs"])


@pytest.mark.parametrize(
    "field",
    [
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.0},
        {"flip_probability": 1.5},
        {"ema_momentum": 1.0},
        {"clip_norm": 0.0},
        {"crop_fraction": 1.5},
        {"interpolation": "nearest"},
        {"crop_area": (0.9, 0.1)},
        {"crop_aspect": (0.0, 1.0)},
    ],
)
def test_impossible_numbers_are_refused(field):
    values = {"model": "IFormerT", "epochs": 1, "batch_size": 1, "learning_rate": 1e-3, **field}
    with pytest.raises(ValueError, match=rf"`{next(iter(field))}` must be .* Received"):
        Recipe(**values)


def test_a_recipe_file_is_run_and_checked(root, tmp_path):
    assert load_recipe(root / "recipes" / "digits.py").model == "MobileFormer26M"
    assert load_recipe(root / "recipes" / "digits.py", "IFormerT").model == "IFormerT"
    with pytest.raises(ValueError, match="A recipe is a Python file"):
        load_recipe(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="has a `get_recipe`"):
        load_recipe(tmp_path / "empty.py")
    (tmp_path / "program.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(ValueError, match="must run .*raises ModuleNotFoundError: No module named"):
        load_recipe(tmp_path / "program.py")


def test_the_description_names_every_field(recipe):
    described = recipe.describe()
    assert all(name in described for name in as_plain(recipe))
    assert re.search(r"^learning_rate +=  ?0.001$", described, re.M)


def test_every_field_has_help_and_its_default_keeps_its_range():
    described = describe_fields(Recipe)
    for field in dataclasses.fields(Recipe):
        help_text = field.metadata["help"]
        assert help_text.endswith(".") and "  " not in help_text
        assert f"  {field.name}: {help_text}" in described
    assert "passes over the training split. (at least 1)" in described
    assert "(in [0, 1); default 0.0)" in described


def test_a_field_with_a_range_is_checked_and_listed_without_another_line():
    @dataclasses.dataclass(frozen=True)
    class Longer(Recipe):
        jumps: int = number("leaps of an image.", between(0, 3), 0)

    values = {"model": "IFormerT", "epochs": 1, "batch_size": 1, "learning_rate": 1e-3}
    assert override(Longer(**values), ["jumps=2"]).jumps == 2
    assert "jumps: leaps of an image. (in [0, 3]; default 0)" in describe_fields(Longer)
    with pytest.raises(ValueError, match=r"`jumps` must be in \[0, 3\]. Received: jumps=4"):
        override(Longer(**values), ["jumps=4"])
    with pytest.raises(ValueError, match="`epochs` must be at least 1. Received: epochs='many'"):
        Longer(**{**values, "epochs": "many"})
