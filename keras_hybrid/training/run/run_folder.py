"""What a run's folder says: whose it is, and what came of it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.files import MODEL_FILE, RUN_FILE, STATE_FILE, write_text
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.recipe.common import CommonRecipe, as_plain
from keras_hybrid.training.tasks.of_recipe import task_named
from keras_hybrid.training.tasks.task import Task

DEFAULT_TASK = "classification"  # of runs that do not say


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where its files are.
        recipe: what it was trained with.
        data: name of its data set.
        class_names: a name for each label.
        history: a row of metrics for each epoch.
        model: the trained network; a classifier with softmax.
    """

    folder: Path
    recipe: CommonRecipe
    data: str
    class_names: tuple[str, ...]
    history: list[dict]
    model: keras.Model


def check_folder(folder: Path, recipe, facts: dict, begun: tuple[str, ...]):
    """Checks that a folder is this run's, or holds none that has begun.

    Args:
        folder: of the run.
        recipe: a dataclass; fields that an older run did not have count as their defaults.
        facts: what else makes a run what it is, by name.
        begun: names of files of which one is there when there is something to lose.

    Raises:
        ValueError: it says what differs.
    """
    path = folder / RUN_FILE
    if not path.exists() or not any((folder / name).exists() for name in begun):
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    defaults = {field.name: field.default for field in dataclasses.fields(recipe)}
    there = {name: found["recipe"].get(name, defaults[name]) for name in defaults}
    different = [
        f"{name}={there[name]!r} there, {value!r} now"
        for name, value in as_plain(recipe).items()
        if there[name] != value and there[name] is not dataclasses.MISSING
    ]
    different += [
        f"other {name}"
        if isinstance(value, list)
        else f"{name}={found.get(name)!r} there, {value!r} now"
        for name, value in facts.items()
        if found.get(name) != value
    ]
    if different:
        raise ValueError(
            "The folder holds another run: choose another, or remove it. "
            f"Received: folder={str(folder)!r}, {'; '.join(different)}"
        )


def claim_folder(folder: Path, recipe, facts: dict):
    """Writes whose the folder is."""
    described = {"recipe": as_plain(recipe), **facts}
    write_text(folder / RUN_FILE, json.dumps(described, indent=1) + "\n")


def data_facts(source: ImageSource) -> dict:
    """What a run's folder says of its data."""
    return {"data": source.name, "class_names": list(source.class_names)}


def run_facts(source: ImageSource, task: Task) -> dict:
    """What a run's folder says of its data, and of its task where that is not classification."""
    facts = data_facts(source)
    return facts if task.name == DEFAULT_TASK else {**facts, "task": task.name}


def load_run(folder) -> Run:
    """Reads a finished run.

    Raises:
        ValueError: when the folder holds none.
    """
    folder = Path(folder)
    if not (folder / MODEL_FILE).exists():
        raise ValueError(
            f"A finished run's folder holds `{MODEL_FILE}`; `recipes/train.py` makes one. "
            f"Received: folder={str(folder)!r}"
        )
    described = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    recipe_class = task_named(described.get("task", DEFAULT_TASK)).recipe_class
    known = {field.name for field in dataclasses.fields(recipe_class)}
    fields = {  # a run of an older version may have had others
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described["recipe"].items()
        if name in known
    }
    with np.load(folder / STATE_FILE, allow_pickle=False) as arrays:
        history = json.loads(str(arrays["history"]))
    return Run(
        folder,
        recipe_class(**fields),
        described["data"],
        tuple(described["class_names"]),
        history,
        keras.models.load_model(folder / MODEL_FILE),
    )
