"""From a finished float run to one in int8: calibrated, trained on, resumed where it ended."""

import dataclasses
import json
import runpy
import sys
import typing
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.quantization.calibration import METHODS, calibrate
from keras_hybrid.quantization.freezing import FreezeRanges
from keras_hybrid.quantization.rewrite import quantize
from keras_hybrid.quantization.table import PROFILES
from keras_hybrid.training.callbacks import Progress, Saver, StopOnNaN
from keras_hybrid.training.checkpoint import load_state
from keras_hybrid.training.files import (
    BEST_FILE,
    MODEL_FILE,
    RUN_FILE,
    STATE_FILE,
    whole_file,
    write_text,
)
from keras_hybrid.training.pipeline import evaluation_dataset, steps_per_epoch, training_dataset
from keras_hybrid.training.recipe import Recipe
from keras_hybrid.training.run import compile_for_training, logits_view
from keras_hybrid.training.run_folder import Run
from keras_hybrid.training.sources import ImageSource, open_source

CALIBRATED_FILE = "calibrated.keras"


@dataclass(frozen=True)
class QuantizedTraining:
    """The numbers of quantisation-aware training; all others are the float run's.

    Attributes:
        profile: of `keras_hybrid.quantize`.
        keep_float: names of layers that stay float.
        epochs: passes over the training split; 0 for post-training quantisation alone.
        learning_rate: its peak, at the float run's reference batch size.
        final_learning_rate: where the cosine ends.
        warmup_epochs: over which it rises.
        weight_decay: of kernels.
        label_smoothing: None for the float run's.
        freeze_after: share of the steps after which the activations' ranges stay as they are.
        calibration_images: of the training split, preprocessed as for evaluation.
        calibration_method: of `keras_hybrid.calibrate`.
        calibration_weights: likewise.
    """

    profile: str = "int8"
    keep_float: tuple[str, ...] = ()
    epochs: int = 3
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-6
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float | None = None
    freeze_after: float = 0.5
    calibration_images: int = 512
    calibration_method: str = "min_max"
    calibration_weights: str = "max"

    def __post_init__(self):
        for name, good, expected in (
            ("profile", self.profile in PROFILES, f"one of {PROFILES}"),
            ("calibration_method", self.calibration_method in METHODS, f"one of {METHODS}"),
            ("epochs", self.epochs >= 0, "0 or more"),
            ("calibration_images", self.calibration_images >= 1, "at least 1"),
            ("freeze_after", 0 <= self.freeze_after <= 1, "in [0, 1]"),
        ):
            if not good:
                raise ValueError(
                    f"`{name}` must be {expected}. Received: {name}={getattr(self, name)!r}"
                )

    def recipe(self, trained: Recipe) -> Recipe:
        """The recipe to train on with: of the float run, with these numbers."""
        smoothing = self.label_smoothing
        return dataclasses.replace(
            trained,
            epochs=max(self.epochs, 1),
            learning_rate=self.learning_rate,
            final_learning_rate=self.final_learning_rate,
            warmup_epochs=self.warmup_epochs,
            warmup_steps=0,
            weight_decay=self.weight_decay,
            label_smoothing=trained.label_smoothing if smoothing is None else smoothing,
            drop_path_rate=0.0,
            ema_momentum=None,
            layer_decay=None,
            teacher=None,
            teacher_cache=None,
            scales=(),
            precision="float32",
            jit_compile=False,
        )


@dataclass(frozen=True)
class QuantizedRun:
    """A finished run.

    Attributes:
        folder: where its files are.
        numbers: what it was trained with.
        history: a row of metrics for each epoch.
        post_training: the calibrated model, not trained.
        trained: the model of the best epoch; None without epochs.
    """

    folder: Path
    numbers: QuantizedTraining
    history: list[dict]
    post_training: keras.Model
    trained: keras.Model | None


def train_quantized(
    run: Run,
    numbers: QuantizedTraining,
    folder,
    *,
    source: ImageSource | None = None,
    data_dir: str | None = None,
    stream=sys.stderr,
) -> QuantizedRun:
    """Quantises a float run's model, calibrates it, and trains it on.

    `folder` gets `calibrated.keras`, after each epoch `state.npz` and `best.keras`, and at the end
    `model.keras`. Where it holds an interrupted run of the same numbers, that one goes on.

    Args:
        run: of `keras_hybrid.training.run_folder.load_run`.
        numbers: of the training.
        folder: of the new run, or of one to resume.
        source: the images; None to open the float run's by its name.
        data_dir: of TFDS.
        stream: where progress goes.

    Returns: the finished `QuantizedRun`.

    Raises:
        ValueError: when `folder` holds a run of other numbers.
    """
    folder = Path(folder)
    source = source or open_source(run.data, data_dir)
    _claim(folder, run, numbers)
    recipe = numbers.recipe(run.recipe)
    if not (folder / CALIBRATED_FILE).exists():
        model = quantize(run.model, numbers.profile, keep_float=numbers.keep_float)
        calibrate(
            model,
            _calibration_batches(source, recipe, numbers.calibration_images),
            method=numbers.calibration_method,
            weights=numbers.calibration_weights,
            stream=stream,
        )
        with whole_file(folder / CALIBRATED_FILE) as path:
            model.save(path)
    post_training = keras.models.load_model(folder / CALIBRATED_FILE)
    if not numbers.epochs:
        return QuantizedRun(folder, numbers, [], post_training, None)
    history = _fit(folder, numbers, recipe, source, stream)
    return QuantizedRun(
        folder, numbers, history, post_training, keras.models.load_model(folder / BEST_FILE)
    )


def _fit(folder, numbers, recipe, source, stream):
    if (folder / MODEL_FILE).exists():
        print(f"{folder} holds a finished run", file=stream)
        return _history(folder)
    model = keras.models.load_model(folder / CALIBRATED_FILE)
    view = logits_view(model)
    steps = steps_per_epoch(source, recipe)
    compile_for_training(view, recipe, steps)
    history = []
    if (folder / STATE_FILE).exists():
        history = load_state(folder / STATE_FILE, view)
        print(f"resuming {folder} after epoch {len(history)}", file=stream)

    def save(name):
        with whole_file(folder / name) as path:
            model.save(path)

    if len(history) < numbers.epochs:
        view.fit(
            training_dataset(source, recipe, len(history)),
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=numbers.epochs,
            validation_data=evaluation_dataset(source, recipe),
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=[
                StopOnNaN(folder / STATE_FILE),
                FreezeRanges(round(numbers.freeze_after * steps * numbers.epochs)),
                Progress(recipe.step_batch_size, numbers.epochs, steps, stream),
                Saver(folder, lambda: save(BEST_FILE), history),
            ],
        )
    save(MODEL_FILE)
    return history


def calibration_images(source: ImageSource, recipe: Recipe, count: int) -> np.ndarray:
    """The first images of the training split, preprocessed as for evaluation."""
    return np.concatenate(list(_calibration_batches(source, recipe, count)))


def _calibration_batches(source, recipe, count):
    for images, _ in evaluation_dataset(source, recipe, "train"):
        yield np.asarray(images)[:count]
        count -= len(images)
        if count <= 0:
            return


def _claim(folder, run, numbers):
    """Writes what the run is, or checks that the folder's is the same."""
    wanted = json.loads(
        json.dumps({"float_run": str(run.folder), "numbers": dataclasses.asdict(numbers)})
    )
    path = folder / RUN_FILE
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != wanted:
            raise ValueError(
                "The folder holds another run: choose another, or remove it. "
                f"Received: folder={str(folder)!r}, {found} there, {wanted} now"
            )
        return
    write_text(path, json.dumps(wanted, indent=1) + "\n")


def _history(folder):
    with np.load(folder / STATE_FILE, allow_pickle=False) as arrays:
        return json.loads(str(arrays["history"]))


def load_quantized_training(path) -> QuantizedTraining:
    """Runs a recipe file and returns its `get_recipe()`.

    Raises:
        ValueError: for a missing file, or one whose recipe is another's.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"A recipe is a Python file. Received: path={str(path)!r}")
    get_recipe = runpy.run_path(str(path)).get("get_recipe")
    numbers = get_recipe() if get_recipe else None
    if not isinstance(numbers, QuantizedTraining):
        raise ValueError(
            "A recipe file for int8 has a `get_recipe` that returns a `QuantizedTraining`. "
            f"Received: path={str(path)!r}"
        )
    return numbers


def override(numbers: QuantizedTraining, arguments) -> QuantizedTraining:
    """Replaces numbers by `name=value` arguments.

    Raises:
        ValueError: for an unknown name or a value of another type.
    """
    changes = {}
    types = typing.get_type_hints(QuantizedTraining)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name not in types:
            raise ValueError(
                f"Arguments are name=value, with a name of {', '.join(types)}. "
                f"Received: {argument!r}"
            )
        try:
            changes[name] = _parse(value, types[name])
        except ValueError as error:
            raise ValueError(f"`{name}` must be a {types[name]}. Received: {argument!r}") from error
    return dataclasses.replace(numbers, **changes)


def _parse(value, kind):
    if kind in (int, float, str):
        return kind(value)
    if kind == tuple[str, ...]:
        return tuple(name for name in value.split(",") if name)
    return None if value == "None" else float(value)
