"""From a folder of photos to a trained, labelled network: planned, trained, the best kept."""

import dataclasses
import difflib
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_hybrid.files import BEST_FILE, MODEL_FILE, RUN_FILE, whole_file, write_text
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.evaluation import Evaluation, evaluate
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.run.run import new_network, train
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.weights.presets import find_preset, is_tag, list_weights
from keras_hybrid.weights.pretrained.download import DownloadError
from keras_hybrid.weights.pretrained.pretrained import converted_file
from keras_hybrid.workflows.photos_classifier import fit_classifier
from keras_hybrid.workflows.photos_plan import (
    DEFAULT_MODEL,
    PhotoPlan,
    Start,
    Wishes,
    plan_photos,
    with_epochs,
)
from keras_hybrid.workflows.photos_set import Photos, short_sides, shown_source

LABELS_FILE = "labels.txt"
START_FILE = "start.keras"
PLAN_FILE = "plan.json"
KEPT_FILE = "kept.json"
# A training step takes about so many times an inference's time; compiling it, about so long.
STEP_OVER_INFERENCE = 3.5
COMPILING_SECONDS = 60.0


@dataclass(frozen=True)
class PhotoRun:
    """A finished run on photos.

    Attributes:
        run: its model is the one that was kept.
        photos: what it was trained on.
        plan: how.
        kept: "last" or "best", whose weights were kept.
        scores: validation accuracy of both.
        seconds: of all epochs.
    """

    run: Run
    photos: Photos
    plan: PhotoPlan
    kept: str
    scores: dict[str, float]
    seconds: float


def find_start(weights: str | None, wishes: Wishes, stream=None) -> Start:
    """What training can start from.

    Args:
        weights: "none", a tag of published weights, a checkpoint's file or a run's folder; None
            for published weights where they can be had, else random ones.
        wishes: what the user said.
        stream: for a word where published weights cannot be had; standard error if None.

    Raises:
        ValueError: for weights that do not exist.
        DownloadError: where published weights were asked for and cannot be had.
    """
    stream = stream or sys.stderr
    if weights == "none":
        return Start(None, "as you asked")
    tag = weights or "imagenet"
    if not is_tag(tag):
        path = Path(tag)
        if (path / RUN_FILE).is_file():
            recipe = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))["recipe"]
            return Start(tag, "your own weights", recipe["model"], recipe["resolution"])
        if not path.exists():
            tags = {preset.tag for preset in list_weights()}
            near = difflib.get_close_matches(tag, tags, n=1)
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            raise ValueError(
                "A tag of published weights, a checkpoint's file or a run's folder is expected"
                f"{hint}. Received: weights={tag!r}"
            )
        return Start(tag, "your own weights")
    model = wishes.model or DEFAULT_MODEL
    try:
        preset = find_preset(model, tag)
        options = {"distillation": True} if preset.distillation else {}
        converted_file(preset, lambda: build_model(preset.model, weights=None, **options))
    except (DownloadError, ImportError) as error:
        if weights is not None:
            raise
        reason = str(error).splitlines()[0].split(". ")[0]
        print(
            f"No published weights of {model} ({reason}): training starts fresh, which needs more "
            "photos for the same accuracy. With them: run once where there is a network, or "
            "--weights=FILE.",
            file=stream,
        )
        return Start(None, "published weights cannot be had here")
    return Start(
        preset.tag, f"ImageNet weights, {preset.score:.1f} % there; licence: {preset.license}"
    )


class StopWhenDone(keras.callbacks.Callback):
    """Ends training where nothing improves any more, or at the end of the time.

    Args:
        patience: epochs without a lower validation loss.
        start: epochs before that counts.
        deadline: of `time.monotonic`; None for none.
        stream: for the reason.
    """

    def __init__(self, patience: int, start: int, deadline: float | None, stream):
        super().__init__()
        self.patience = patience
        self.start = start
        self.deadline = deadline
        self.stream = stream
        self._best, self._since = float("inf"), 0

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        if logs["val_loss"] < self._best - 1e-4:
            self._best, self._since = logs["val_loss"], 0
        elif epoch >= self.start:
            self._since += 1
        last = epoch + 1 >= self.params["epochs"]
        if self._since >= self.patience and not last:
            print(f"stopping: no better for {self._since} epochs", file=self.stream)
            self.model.stop_training = True
        elif self.deadline is not None and now + (now - self._started) > self.deadline and not last:
            print("stopping: the time is used up", file=self.stream)
            self.model.stop_training = True


def train_photos(
    photos: Photos,
    out,
    *,
    wishes: Wishes | None = None,
    weights: str | None = None,
    minutes: float | None = None,
    stream=None,
) -> PhotoRun:
    """Trains a network on photos with a recipe fitted to the set, and keeps the best of it.

    From weights other than random, the classifier alone comes first, on features that are computed
    once; then the whole network is trained. The same call goes on with an interrupted run.

    Args:
        photos: of `open_photos`.
        out: the run's folder: besides the files of `train` it gets `labels.txt` and `plan.json`.
        wishes: numbers that the user chose.
        weights: what to start from, as for `find_start`.
        minutes: to be done in; None for as long as it takes.
        stream: where plan and progress go; standard error if None.

    Raises:
        ValueError: when `out` holds another run, or for impossible wishes.
        DownloadError: where published weights were asked for and cannot be had.
    """
    started, stream = time.monotonic(), stream or sys.stderr
    out, wishes = Path(out), wishes or Wishes()
    deadline = None if minutes is None else started + 60 * minutes
    source = photos.source
    kept_plan = _read_plan(out, source, wishes)
    if kept_plan is not None:
        plan = kept_plan
    else:
        accelerator = bool(tf.config.list_physical_devices("GPU"))
        start = find_start(weights, wishes, stream)
        plan = plan_photos(photos.counts("train"), short_sides(photos), start, wishes, accelerator)
        if minutes is not None:
            plan = _within(plan, photos, deadline - time.monotonic())
    _print_set(photos, stream)
    print(plan.describe(), file=stream)
    recipe = plan.recipe
    if recipe.initial_weights is not None and kept_plan is None:
        print("fitting the classifier alone, to features computed once", file=stream)
        model = fit_classifier(recipe, source)
        with whole_file(out / START_FILE) as path:
            model.save(path)
        recipe = dataclasses.replace(recipe, initial_weights=str(out / START_FILE))
        plan = dataclasses.replace(plan, recipe=recipe)
    _write_plan(out, source, plan)
    write_text(out / LABELS_FILE, "".join(f"{name}\n" for name in source.class_names))
    callbacks = (StopWhenDone(plan.patience, recipe.epochs // 2, deadline, stream),)
    run = train(
        recipe,
        shown_source(photos, plan.counts, recipe.seed),
        out,
        callbacks=callbacks,
        stream=stream,
    )
    run, kept, scores = keep_best(run, source)
    seconds = sum(row["seconds"] for row in run.history)
    print(
        f"kept the weights of the {kept} epoch: validation accuracy {scores[kept]:.1%}"
        f" (last epoch {scores['last']:.1%}, best epoch {scores['best']:.1%})",
        file=stream,
    )
    return PhotoRun(run, photos, plan, kept, scores, seconds)


def keep_best(run: Run, source: ImageSource) -> tuple[Run, str, dict[str, float]]:
    """Puts the best epoch's weights in place of the last one's, where they do better.

    With as many photos right, which small sets often have, the less cross-entropy is better.
    What came of it is written down: afterwards the last epoch's weights may be gone.

    Returns: the run, "last" or "best", and the validation accuracy of both.
    """
    record = run.folder / KEPT_FILE
    if record.is_file():
        found = json.loads(record.read_text(encoding="utf-8"))
        if found["kept"] == "best":
            run = _with_best(run)
        return run, found["kept"], found["scores"]
    data = evaluation_dataset(source, run.recipe)
    best = keras.models.load_model(run.folder / BEST_FILE)
    found = {"last": evaluate(run.model, data), "best": evaluate(best, data)}
    scores = {name: evaluation.accuracy for name, evaluation in found.items()}
    kept = max(found, key=lambda name: (found[name].accuracy, -found[name].cross_entropy))
    # Written first: where the process ends between the two, the next call copies the file.
    write_text(record, json.dumps({"kept": kept, "scores": scores}) + "\n")
    return (_with_best(run) if kept == "best" else run), kept, scores


def _with_best(run):
    """The run with the best epoch's model in place of the last one's, in its folder, too."""
    model, best = run.folder / MODEL_FILE, run.folder / BEST_FILE
    if model.read_bytes() != best.read_bytes():
        with whole_file(model) as path:
            shutil.copyfile(best, path)
    return dataclasses.replace(run, model=keras.models.load_model(model))


def predictions(run: Run, source: ImageSource, split: str) -> Evaluation:
    """What a run's model says about each photo of a split, in its order."""
    return evaluate(run.model, evaluation_dataset(source, run.recipe, split))


def _within(plan, photos, seconds):
    """The plan with as many epochs as fit into the time, by a measured inference."""
    recipe = plan.recipe
    model = new_network(recipe, len(photos.source.class_names))
    images = np.zeros((recipe.batch_size, recipe.resolution, recipe.resolution, 3), "float32")
    model.predict_on_batch(images)
    started = time.monotonic()
    for _ in range(3):
        model.predict_on_batch(images)
    inference = (time.monotonic() - started) / 3 / recipe.batch_size
    evaluated = photos.source.sizes[photos.source.evaluation_split]
    epoch = inference * (STEP_OVER_INFERENCE * sum(plan.counts) + evaluated)
    fitting = max(1, int((seconds - COMPILING_SECONDS) / epoch))
    if fitting >= recipe.epochs:
        return plan
    return with_epochs(plan, fitting, f"what the time allows, at about {epoch:.0f} s an epoch")


def _print_set(photos, stream):
    counts = [sum(photos.counts(split)) for split in photos.files]
    sizes = ", ".join(
        f"{count:,} {split}"
        for split, count in zip(photos.files, counts, strict=True)
        if split != "all"
    )
    print(f"{len(photos.source.class_names)} classes: {sizes}", file=stream)


def _write_plan(out, source, plan):
    described = {
        "data": source.name,
        "class_names": list(source.class_names),
        **dataclasses.asdict(plan),
    }
    write_text(out / PLAN_FILE, json.dumps(described, indent=1) + "\n")


def _read_plan(out, source, wishes):
    """The plan that a folder's run was begun with, with the wishes of now; None for a new run."""
    from keras_hybrid.workflows.photos_plan import Choice

    if not (out / RUN_FILE).is_file():
        return None
    found = {}
    if (out / PLAN_FILE).is_file():
        found = json.loads((out / PLAN_FILE).read_text(encoding="utf-8"))
    if found.get("data") != source.name or found.get("class_names") != list(source.class_names):
        begun = found.get("data", "another data set")
        raise ValueError(
            "The folder holds another run: choose another, or remove it. "
            f"Received: out={str(out)!r}, with a run on {begun}"
            + ("" if begun != source.name else " when it had other classes")
        )
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found["recipe"].items()
    }
    asked = {name: value for name, value in dataclasses.asdict(wishes).items() if value is not None}
    recipe = Recipe(**(fields | asked))
    choices = tuple(Choice(**choice) for choice in found["choices"])
    return PhotoPlan(recipe, tuple(found["counts"]), found["patience"], choices)
