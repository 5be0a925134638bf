"""What a run's folder says: whose it is, and what came of it."""

import dataclasses
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.files import MODEL_FILE, RUN_FILE, STATE_FILE, is_bucket, place, write_text
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.recipe.common import CommonRecipe, as_plain
from keras_hybrid.training.tasks.of_recipe import task_named
from keras_hybrid.training.tasks.task import Task

DEFAULT_TASK = "classification"  # of runs that do not say
# Facts of a run that may change from process to process, and what tells data by their content.
DATA, MACHINE, FINGERPRINT = "data", "machine", "fingerprint"


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


# Numbers of a recipe that say how a machine computes, and not what: a run may go on with others.
MAY_CHANGE = frozenset(
    (
        "accumulation_steps",
        "precision",
        "jit_compile",
        "steps_per_execution",
        "validation_every",
        "finish_on",
        "teacher_cache",
    )
)


def check_folder(folder: Path, recipe, facts: dict, begun: tuple[str, ...]) -> list[str]:
    """Checks that a folder is this run's, or holds none that has begun.

    A run may go on with other numbers of `MAY_CHANGE`, on another machine, and with its data at
    another path where they are the same by their fingerprint.

    Args:
        folder: of the run.
        recipe: a dataclass; fields that an older run did not have count as their defaults.
        facts: what else makes a run what it is, by name.
        begun: names of files of which one is there when there is something to lose.

    Returns: what has changed and may, a phrase each.

    Raises:
        ValueError: it says what differs.
    """
    path = folder / RUN_FILE
    if not path.exists() or not any((folder / name).exists() for name in begun):
        return []
    found = _described(path)
    defaults = {
        field.name: field.default
        if field.default_factory is dataclasses.MISSING
        else field.default_factory()
        for field in dataclasses.fields(recipe)
    }
    there = {name: found["recipe"].get(name, defaults[name]) for name in defaults}
    there = {name: list(x) if isinstance(x, tuple) else x for name, x in there.items()}
    changed, different = [], []
    for name, value in as_plain(recipe).items():
        if there[name] != value and there[name] is not dataclasses.MISSING:
            kind = changed if name in MAY_CHANGE else different
            kind.append(f"{name}={there[name]!r} there, {value!r} now")
    is_same_data = facts.get(FINGERPRINT, 0) == found.get(FINGERPRINT, 1)
    for name, value in facts.items():
        is_new = name in (FINGERPRINT, MACHINE) and name not in found  # an older run did not say
        if found.get(name) == value or is_new:
            continue
        if name in (DATA, MACHINE):
            kind = changed if name == MACHINE or is_same_data else different
            kind.append(f"{name}={found.get(name)!r} there, {value!r} now")
        elif name == FINGERPRINT:
            different.append("other images than when it began")
        elif isinstance(value, list):
            different.append(f"other {name}")
        else:
            different.append(f"{name}={found.get(name)!r} there, {value!r} now")
    if different:
        raise ValueError(
            "The folder holds another run: choose another, or remove it. "
            f"Received: folder={str(folder)!r}, {'; '.join(different)}"
        )
    return changed


def _described(path):
    """What `run.json` says."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"A run's {RUN_FILE} is a JSON file. Received: {path}, which is damaged: {error}"
        ) from error


def claim_folder(folder: Path, recipe, facts: dict):
    """Writes whose the folder is."""
    described = {"recipe": as_plain(recipe), **facts}
    write_text(folder / RUN_FILE, json.dumps(described, indent=1) + "\n")


def data_facts(source: ImageSource) -> dict:
    """What a run's folder says of its data."""
    facts = {DATA: source.name, "class_names": list(source.class_names)}
    return facts if source.fingerprint is None else {**facts, FINGERPRINT: source.fingerprint}


def run_facts(source: ImageSource, task: Task, machine: str | None = None) -> dict:
    """What a run's folder says of its data, of its machine, and of its task where that is not
    classification."""
    facts = data_facts(source)
    facts |= {} if machine is None else {MACHINE: machine}
    return facts if task.name == DEFAULT_TASK else {**facts, "task": task.name}


def load_run(folder) -> Run:
    """Reads a finished run.

    Raises:
        ValueError: when the folder holds none.
    """
    folder = place(folder)
    if not (folder / MODEL_FILE).exists():
        raise ValueError(
            f"A finished run's folder holds `{MODEL_FILE}`; `recipes/train.py` makes one. "
            f"Received: folder={str(folder)!r}"
        )
    described = _described(folder / RUN_FILE)
    content = io.BytesIO((folder / STATE_FILE).read_bytes())
    with np.load(content, allow_pickle=False) as arrays:
        history = json.loads(str(arrays["history"]))
    return Run(
        folder,
        _recipe(described),
        described["data"],
        tuple(described["class_names"]),
        history,
        _load_model(folder / MODEL_FILE),
    )


def load_recipe_of_run(folder) -> CommonRecipe:
    """What a run was trained with; nothing else of it is read."""
    return _recipe(_described(place(folder) / RUN_FILE))


def _recipe(described):
    recipe_class = task_named(described.get("task", DEFAULT_TASK)).recipe_class
    known = {field.name for field in dataclasses.fields(recipe_class)}
    fields = {  # a run of an older version may have had others
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described["recipe"].items()
        if name in known
    }
    return recipe_class(**fields)


def _load_model(path):
    """A model of a file, which may be in a bucket."""
    if not is_bucket(path):
        return keras.models.load_model(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        copy.write_bytes(path.read_bytes())
        return keras.models.load_model(copy)
