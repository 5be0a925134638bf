"""The state of a run after an epoch: everything that a resumed run needs, in one file."""

import io
import json

import keras
import numpy as np

from keras_hybrid.files import whole_file


def _variables(model):
    """All variables of a compiled model and its optimiser, states of random generators included.

    Those of a teacher, which never change, are left out.
    """
    others = {id(variable) for variable in getattr(model, "teacher_variables", ())}
    named = [("model", variable) for variable in model.variables if id(variable) not in others]
    named += [("optimizer", variable) for variable in model.optimizer.variables]
    return {f"{index:05d} {kind}": variable for index, (kind, variable) in enumerate(named)}


def save_state(path, model: keras.Model, history: list[dict], steps: int = 0):
    """Writes weights, optimiser, random states and history of a compiled model to one file.

    The file is written under a temporary name and renamed, so that it is whole at any moment.

    Args:
        path: of the `.npz` file.
        model: compiled, its optimiser built.
        history: a row of metrics for each finished epoch.
        steps: done in the epoch after these; its metrics so far are written, too.
    """
    arrays = {
        name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model).items()
    }
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, history=np.array(json.dumps(history)), **arrays, **_metrics(model, steps))


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


def load_metrics(path, content: bytes | None = None) -> tuple[int, list[np.ndarray]]:
    """Steps done in the epoch after the finished ones, and its metrics so far.

    Args:
        path: of the `.npz` file.
        content: of the file, where it has been read already.
    """
    with np.load(path if content is None else io.BytesIO(content), allow_pickle=False) as arrays:
        if "steps" not in arrays.files:
            return 0, []
        names = sorted(
            (name for name in arrays.files if name.startswith("metric ")),
            key=lambda name: int(name.split()[1]),
        )
        return int(arrays["steps"]), [arrays[name] for name in names]


def load_state(path, model: keras.Model, content: bytes | None = None) -> list[dict]:
    """Puts a saved state into a compiled model; returns the history.

    Args:
        path: of the `.npz` file.
        model: compiled, its optimiser built.
        content: of the file, where it has been read already.

    Raises:
        ValueError: when the state is of another model or optimiser.
    """
    variables = _variables(model)
    file = path if content is None else io.BytesIO(content)
    with np.load(file, allow_pickle=False) as arrays:
        expected = {name: tuple(variable.shape) for name, variable in variables.items()}
        found = {name: arrays[name].shape for name in arrays.files if name[0].isdigit()}
        if expected != found:
            different = sorted(
                name for name in {*expected, *found} if expected.get(name) != found.get(name)
            )
            raise ValueError(
                "The state is of another model or optimiser. "
                f"Received: path={str(path)!r}, {len(different)} variables that differ, the first: "
                f"{different[0]}, expected {expected.get(different[0])}, "
                f"found {found.get(different[0])}"
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
        return json.loads(str(arrays["history"]))
