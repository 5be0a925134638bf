"""The state of a run after an epoch: everything that a resumed run needs, in one file."""

import io
import itertools
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import TextIO

import keras
import numpy as np

from keras_hybrid.files import is_bucket, place, whole_file


def _variables(model):
    """All variables of a compiled model and its optimiser, states of random generators included.

    Those of a teacher, which never change, are left out.
    """
    others = {id(variable) for variable in getattr(model, "teacher_variables", ())}
    named = [("model", variable) for variable in model.variables if id(variable) not in others]
    named += [("optimizer", variable) for variable in model.optimizer.variables]
    return {f"{index:05d} {kind}": variable for index, (kind, variable) in enumerate(named)}


def save_state(path, model: keras.Model, history: list[dict], steps: int = 0, keep: int = 1):
    """Writes weights, optimiser, random states and history of a compiled model to one file.

    The file is written under a temporary name and renamed, so that it is whole at any moment.

    Args:
        path: of the `.npz` file.
        model: compiled, its optimiser built.
        history: a row of metrics for each finished epoch.
        steps: done in the epoch after these; its metrics so far are written, too.
        keep: states that are kept: this one, and those before it under other names.
    """
    variables = _variables(model)
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}
    about = {
        "history": json.dumps(history),
        "paths": json.dumps({name: variable.path for name, variable in variables.items()}),
        "accumulation": str(_accumulation(model)),
    }
    with whole_file(path) as temporary:
        with open(temporary, "wb") as file:
            np.savez(
                file,
                **{name: np.array(text) for name, text in about.items()},
                **arrays,
                **_metrics(model, steps),
            )
        for newer, older in reversed(list(itertools.pairwise(state_paths(path, keep)))):
            _keep_copy(newer, older)


def state_paths(path, keep: int) -> list[Path]:
    """Where the newest states of a run are, the newest first."""
    path = place(path)
    return [path, *(_older(path, age) for age in range(1, keep))]


def remove_older_states(path):
    """Removes the states before the newest, which a finished run has no use for."""
    path = place(path)
    for age in itertools.count(1):
        older = _older(path, age)
        if not older.exists():
            return
        older.unlink()


def _older(path, age):
    return path.with_name(f"{path.stem}.{age}{path.suffix}")


def _keep_copy(newer, older):
    """Gives a file a second name, in place of what had that before."""
    if not newer.exists():
        return
    if is_bucket(newer):
        newer.copy(older, overwrite=True)  # in the bucket itself
        return
    with whole_file(older) as temporary:
        try:
            os.link(newer, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(newer, temporary)


def read_state(path, keep: int, stream: TextIO) -> bytes | None:
    """The newest state of a run that is whole; None where there is none at all.

    Args:
        path: of the newest.
        keep: states that are kept.
        stream: where it says that a state is not whole.

    Raises:
        ValueError: where there are states, and none of them is whole.
    """
    broken = []
    for file in state_paths(path, keep):
        if not file.exists():
            continue
        content = file.read_bytes()
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                found = archive.testzip()
        except zipfile.BadZipFile as error:
            found = error
        if found is None:
            if broken:
                print(
                    f"{', '.join(broken)} is not whole: going on from {file}, which was saved "
                    "before",
                    file=stream,
                )
            return content
        broken.append(str(file))
    if broken:
        raise ValueError(
            "A state that is whole is expected: remove the files to begin the run again. "
            f"Received: {', '.join(broken)}, which is cut off or damaged"
        )
    return None


def _accumulation(model):
    """Training steps in a step of the model's optimiser."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer.gradient_accumulation_steps or 1


def _metrics(model, steps):
    """The metrics of an epoch that is not finished."""
    if not steps:
        return {}
    values = [keras.ops.convert_to_numpy(variable) for variable in model.metrics_variables]
    return {"steps": np.array(steps), **{f"metric {i}": value for i, value in enumerate(values)}}


class ResumedMetrics(keras.callbacks.Callback):
    """Goes on with the metrics of an epoch that was interrupted.

    Args:
        values: of the model's `metrics_variables`.
    """

    def __init__(self, values: list[np.ndarray]):
        super().__init__()
        self.values = values

    def on_epoch_begin(self, epoch, logs=None):
        for variable, value in zip(self.model.metrics_variables, self.values, strict=True):
            variable.assign(value)


def load_metrics(
    path, content: bytes | None = None, accumulation: int | None = None
) -> tuple[int, list[np.ndarray]]:
    """Steps done in the epoch after the finished ones, and its metrics so far.

    Args:
        path: of the `.npz` file.
        content: of the file, where it has been read already.
        accumulation: training steps in a step of the optimiser now; None for as many as before.
    """
    with np.load(path if content is None else io.BytesIO(content), allow_pickle=False) as arrays:
        if "steps" not in arrays.files:
            return 0, []
        names = sorted(
            (name for name in arrays.files if name.startswith("metric ")),
            key=lambda name: int(name.split()[1]),
        )
        before = _accumulation_before(arrays, accumulation)
        steps = int(arrays["steps"]) * (accumulation or before) // before
        return steps, [arrays[name] for name in names]


def _accumulation_before(arrays, now):
    return int(str(arrays["accumulation"])) if "accumulation" in arrays.files else now or 1


def load_state(path, model: keras.Model, content: bytes | None = None) -> list[dict]:
    """Puts a saved state into a compiled model; returns the history.

    It may have been saved in another precision, on another backend or number of devices, or with
    other accumulation: a state holds whole steps of the optimiser, which are counted anew.

    Args:
        path: of the `.npz` file.
        model: compiled, its optimiser built.
        content: of the file, where it has been read already.

    Raises:
        ValueError: when the state is of another model or optimiser.
    """
    file = path if content is None else io.BytesIO(content)
    with np.load(file, allow_pickle=False) as arrays:
        numbered = sorted(name for name in arrays.files if name[0].isdigit())
        paths = json.loads(str(arrays["paths"])) if "paths" in arrays.files else {}
        saved = _by_place((name, paths.get(name, ""), name) for name in numbered)
        variables = _by_place(
            (name, variable.path if paths else "", variable)
            for name, variable in _variables(model).items()
        )
        found = {key: arrays[name].shape for key, name in saved.items()}
        expected = {key: tuple(variable.shape) for key, variable in variables.items()}
        if expected != found:
            different = sorted(
                key for key in {*expected, *found} if expected.get(key) != found.get(key)
            )
            raise ValueError(
                "The state is of another model or optimiser. "
                f"Received: path={str(path)!r}, {len(different)} variables that differ, the first: "
                f"{different[0]}, expected {expected.get(different[0])}, "
                f"found {found.get(different[0])}"
            )
        now = _accumulation(model)
        before = _accumulation_before(arrays, now)
        for key, variable in variables.items():
            value = arrays[saved[key]]
            if variable.path.endswith(_COUNTED_IN_STEPS):
                value = (value // before * now).astype(value.dtype)
            variable.assign(value)
        return json.loads(str(arrays["history"]))


# What an optimiser has with one accumulation or precision and not with another: it starts anew.
_OF_THE_MACHINE = re.compile(r"_gradient_accumulator$|^loss_scale_optimizer(_[0-9]+)?/")
_COUNTED_IN_STEPS = ("/iteration", "statistics/batches")


def _by_place(named):
    """Values by their place in the model, or among what every optimiser of its kind has.

    Args:
        named: (name in a state, path of the variable, value) each, in order.
    """
    kept = [(name, value) for name, path, value in named if not _OF_THE_MACHINE.search(path)]
    return {
        f"{place:05d} {name.partition(' ')[2]}": value for place, (name, value) in enumerate(kept)
    }
