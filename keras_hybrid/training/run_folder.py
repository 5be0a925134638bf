"""What a run's folder says: whose it is, and what came of it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.training.files import MODEL_FILE, RUN_FILE, STATE_FILE, write_text
from keras_hybrid.training.recipe import Recipe
from keras_hybrid.training.sources import ImageSource


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where its files are.
        recipe: what it was trained with.
        data: name of its data set.
        class_names: a name for each label.
        history: a row of metrics for each epoch.
        model: the trained network, with softmax.
    """

    folder: Path
    recipe: Recipe
    data: str
    class_names: tuple[str, ...]
    history: list[dict]
    model: keras.Model


def check_folder(folder: Path, recipe: Recipe, source: ImageSource):
    """Checks that a folder is this run's, or holds none of which an epoch is finished.

    Raises:
        ValueError: it says what differs.
    """
    path = folder / RUN_FILE
    if not path.exists() or not ((folder / STATE_FILE).exists() or (folder / MODEL_FILE).exists()):
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    defaults = {field.name: field.default for field in dataclasses.fields(Recipe)}
    there = {name: found["recipe"].get(name, defaults[name]) for name in defaults}
    different = [
        f"{name}={there[name]!r} there, {value!r} now"
        for name, value in recipe.as_dict().items()
        if there[name] != value and there[name] is not dataclasses.MISSING
    ]
    if found["data"] != source.name:
        different.append(f"data={found['data']!r} there, {source.name!r} now")
    if found["class_names"] != list(source.class_names):
        different.append("other classes")
    if different:
        raise ValueError(
            "The folder holds another run: choose another, or remove it. "
            f"Received: folder={str(folder)!r}, {'; '.join(different)}"
        )


def claim_folder(folder: Path, recipe: Recipe, source: ImageSource):
    """Writes whose the folder is."""
    described = {
        "recipe": recipe.as_dict(),
        "data": source.name,
        "class_names": list(source.class_names),
    }
    write_text(folder / RUN_FILE, json.dumps(described, indent=1) + "\n")


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
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described["recipe"].items()
    }
    with np.load(folder / STATE_FILE, allow_pickle=False) as arrays:
        history = json.loads(str(arrays["history"]))
    return Run(
        folder,
        Recipe(**fields),
        described["data"],
        tuple(described["class_names"]),
        history,
        keras.models.load_model(folder / MODEL_FILE),
    )
