"""From a finished float run to one in int8: calibrated, trained on, resumed where it ended."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.commentary import STANDARD_ERROR
from keras_hybrid.files import BEST_FILE, MODEL_FILE, STATE_FILE, whole_file
from keras_hybrid.quantization.quantize import quantize
from keras_hybrid.quantization.ranges.calibration import calibrate
from keras_hybrid.quantization.ranges.freezing import FreezeRanges
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import steps_per_epoch
from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.run.callbacks import Measure, Progress, Saver, StopOnNaN
from keras_hybrid.training.run.run import compile_for_training
from keras_hybrid.training.run.run_folder import Run, check_folder, claim_folder, data_facts
from keras_hybrid.training.run.training_state import load_state
from keras_hybrid.training.tasks.of_recipe import task_of
from keras_hybrid.training.tasks.task import Task
from keras_hybrid.workflows.int8_recipe import QuantizedRecipe

CALIBRATED_FILE = "calibrated.keras"


@dataclass(frozen=True)
class QuantizedRun:
    """A finished run.

    Attributes:
        folder: where its files are.
        recipe: what it was trained with.
        history: a row of metrics for each epoch.
        post_training: the calibrated model, not trained.
        trained: the model of the best epoch; None without epochs.
    """

    folder: Path
    recipe: QuantizedRecipe
    history: list[dict]
    post_training: keras.Model
    trained: keras.Model | None


def train_quantized(
    run: Run,
    recipe: QuantizedRecipe,
    folder,
    *,
    source: ImageSource | None = None,
    data_dir: str | None = None,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    stream=STANDARD_ERROR,
) -> QuantizedRun:
    """Quantises a float run's model, calibrates it, and trains it on.

    `folder` gets `calibrated.keras`, after each epoch `state.npz`, `history.csv` and `best.keras`,
    and at the end `model.keras`. Where it holds an interrupted run of the same recipe, that one
    goes on.

    Args:
        run: of `keras_hybrid.training.run.run_folder.load_run`.
        recipe: of the training.
        folder: of the new run, or of one to resume.
        source: the images; None to open the float run's by its name.
        data_dir: of TFDS.
        callbacks: more Keras callbacks.
        stream: where progress goes.

    Returns: the finished `QuantizedRun`.

    Raises:
        ValueError: when `folder` holds another run, or the model cannot be quantised.
        TrainingDivergedError: when the loss is no finite number.
    """
    folder = Path(folder)
    training = recipe.training_recipe(run.recipe)
    task = task_of(training)
    source = task.prepared_source(source or task.open_source(run.data, data_dir), training)
    facts = {"float_weights": _fingerprint(run.model), **data_facts(source)}
    check_folder(folder, recipe, facts, begun=(CALIBRATED_FILE,))
    if (folder / CALIBRATED_FILE).exists():
        post_training = keras.models.load_model(folder / CALIBRATED_FILE)
    else:
        post_training = quantize(
            run.model,
            recipe.profile,
            target=recipe.target,
            keep_float=recipe.keep_float,
            batch_norm=recipe.batch_norm,
        )
        calibrate(
            post_training,
            _calibration_batches(source, training, recipe.calibration_images),
            method=recipe.calibration_method,
            weights=recipe.calibration_weights,
            stream=stream,
        )
        claim_folder(folder, recipe, facts)  # whatever can be refused has been
        _save(post_training, folder / CALIBRATED_FILE)
    if not recipe.epochs:
        return QuantizedRun(folder, recipe, [], post_training, None)
    history = _fit(folder, recipe, training, source, callbacks, stream)
    trained = keras.models.load_model(folder / BEST_FILE)
    return QuantizedRun(folder, recipe, history, post_training, trained)


def _fit(folder, recipe, training, source, callbacks, stream):
    if (folder / MODEL_FILE).exists():
        print(f"{folder} holds a finished run", file=stream)
        return _history(folder)
    keras.utils.set_random_seed(training.seed)
    model = keras.models.load_model(folder / CALIBRATED_FILE)
    task = task_of(training)
    plain = keras.Model(model.input, task.outputs(model), name=f"{model.name}_logits")
    view = task.view(training, plain)
    steps = steps_per_epoch(source, training)
    compile_for_training(view, training, steps)
    history = []
    if (folder / STATE_FILE).exists():
        history = load_state(folder / STATE_FILE, view)
        print(f"resuming {folder} after epoch {len(history)}", file=stream)
    measures = []
    if type(task).measure is not Task.measure:
        measures.append(Measure(lambda: task.measure(model, source, training)))
    monitor = f"val_{task.metric(training)}"
    if len(history) < recipe.epochs:
        view.fit(
            task.training_dataset(source, training, len(history)),
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=recipe.epochs,
            validation_data=task.evaluation_dataset(source, training),
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=[
                StopOnNaN(folder / STATE_FILE),
                FreezeRanges(round(recipe.freeze_after * steps * recipe.epochs)),
                *measures,
                Progress(training.step_batch_size, recipe.epochs, steps, stream),
                Saver(folder, lambda: _save(model, folder / BEST_FILE), history, monitor),
                *callbacks,
            ],
        )
    _save(model, folder / MODEL_FILE)
    return history


def calibration_images(source: ImageSource, recipe: CommonRecipe, count: int) -> np.ndarray:
    """The first images of the training split, preprocessed as for evaluation."""
    return np.concatenate(list(_calibration_batches(source, recipe, count)))


def _calibration_batches(source, recipe, count):
    for images, _ in task_of(recipe).evaluation_dataset(source, recipe, split="train"):
        yield np.asarray(images)[:count]
        count -= len(images)
        if count <= 0:
            return


def _save(model, path):
    with whole_file(path) as temporary:
        model.save(temporary)


def _fingerprint(model):
    """What tells a float run from another, wherever its folder lies."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]


def _history(folder):
    with np.load(folder / STATE_FILE, allow_pickle=False) as arrays:
        return json.loads(str(arrays["history"]))
