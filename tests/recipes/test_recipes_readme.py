"""recipes/README.md is what its program writes; rows come from runs; every recipe says its due."""

import dataclasses
import io
import json
import re
import runpy

import pytest

from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.recipe import load_recipe, override


@pytest.fixture(scope="module")
def program(root):
    return runpy.run_path(str(root / "recipes" / "write_readme.py"))


def test_the_page_is_up_to_date(root, program):
    results = json.loads((root / "recipes" / "results.json").read_text())
    written = (root / "recipes" / "README.md").read_text()
    assert written == program["render"](results), "run `python recipes/write_readme.py`"
    assert all(row["command"].split(" ")[1] in written for row in results)


def test_commands_on_the_page_are_those_of_its_rows(root):
    """Each repeats its run: the recipe exists, and takes the overrides."""
    for row in json.loads((root / "recipes" / "results.json").read_text()):
        words = row["command"].split()
        assert words[0] == "python" and (root / words[1]).is_file()
        if words[1] == "recipes/train.py":
            given = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
            path = root / "recipes" / f"{given['recipe']}.py"
            changes = [word for word in words[2:] if not word.startswith("--")]
            recipe = override(load_recipe(path, given.get("variant"), CommonRecipe), changes)
            assert f"{recipe.epochs} epochs at {recipe.resolution} px" in row["what"]


def test_every_recipe_gives_command_cost_and_result(root, program):
    found = {
        str(path.relative_to(root / "recipes").with_suffix(""))
        for folder in ("imagenet", "distill", "finetune", "segment", "detect")
        for path in (root / "recipes" / folder).glob("*.py")
    }
    assert found | {"digits"} == set(program["NAMES"])
    for name in program["NAMES"]:
        text = runpy.run_path(str(root / "recipes" / f"{name}.py"))["__doc__"]
        assert f"python recipes/train.py --recipe={name} " in text, name
        assert re.search(r"^Cost to expect: ", text, re.M), name
        assert re.search(r"^Published (top-1|result)", text, re.M), name


def test_a_run_becomes_the_command_that_repeats_it(program, tmp_path, root):
    base = load_recipe(root / "recipes" / "imagenet" / "mobilevit.py", "XXS")
    recipe = dataclasses.replace(
        base,
        epochs=3,
        scales=(),
        ema_momentum=None,
        crop_area=(0.5, 0.9),
        new_classifier=True,
        initial_weights="runs/a",
        model_options={"patch_size": 4, "name": None},
    )
    changes = program["assignments"](recipe, base)
    assert "scales=" in changes and "crop_area=0.5,0.9" in changes
    assert "ema_momentum=none" in changes and "new_classifier=true" in changes
    assert override(base, changes) == recipe


def test_a_finished_run_is_described(program, tmp_path, root, source, tiny_network):
    from keras_hybrid.training.run.run import train

    base = load_recipe(root / "recipes" / "digits.py", "MobileFormer26M")
    recipe = override(base, ["epochs=2", "batch_size=8", "warmup_epochs=0"])
    run = train(recipe, source, tmp_path / "a", stream=io.StringIO())
    row = program["described_run"](run.folder, "digits", "MobileFormer26M")
    assert row["command"] == (
        "python recipes/train.py --recipe=digits --variant=MobileFormer26M --data=greys "
        "--out=runs/a epochs=2 batch_size=8 warmup_epochs=0.0"
    )
    assert row["accuracy"] == run.history[-1]["val_accuracy"] and row["seconds"] > 0
    with pytest.raises(ValueError, match="The run's model is MobileFormer26M"):
        program["described_run"](run.folder, "digits", "IFormerT")
    with pytest.raises(ValueError, match="needs --recipe"):
        program["described_run"](run.folder, None, None)
