"""A training run: a recipe, a data set and a folder, resumed wherever it was interrupted."""

import contextlib
import dataclasses
import json
import os
import sys
from typing import TextIO

import keras
import numpy as np

from keras_hybrid.files import (
    BEST_FILE,
    MODEL_FILE,
    STATE_FILE,
    local_path,
    locked_folder,
    whole_file,
)
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import (
    evaluation_dataset,
    steps_per_epoch,
    training_dataset,
)
from keras_hybrid.training.data.sources import open_source
from keras_hybrid.training.distillation.distilled_training import DistillationView, head_logits
from keras_hybrid.training.distillation.teacher import Teacher, open_teacher
from keras_hybrid.training.distillation.teacher_cache import cached_logits
from keras_hybrid.training.distribution.distribution import Distribution
from keras_hybrid.training.optimization.averaging import (
    MovingAverage,
    average_statistics,
    first_weights_share,
)
from keras_hybrid.training.optimization.finetuning import load_initial_weights
from keras_hybrid.training.optimization.layer_depth import freeze_stages
from keras_hybrid.training.optimization.schedules import make_optimizer
from keras_hybrid.training.recipe.recipe import Recipe, as_plain
from keras_hybrid.training.run.callbacks import Progress, Saver, StopOnNaN
from keras_hybrid.training.run.fused_norms import fuse_norms
from keras_hybrid.training.run.interruption import StopOnSignal
from keras_hybrid.training.run.run_folder import (
    Run,
    check_folder,
    claim_folder,
    data_facts,
    load_run,
)
from keras_hybrid.training.run.tensorboard import TensorBoardLog
from keras_hybrid.training.run.training_state import (
    ResumedMetrics,
    load_metrics,
    load_state,
    save_state,
)


def new_network(recipe: Recipe, num_classes: int, any_size: bool = False) -> keras.Model:
    """The recipe's network with softmax, new.

    Args:
        recipe: model, resolution and rates.
        num_classes: of the data.
        any_size: whether it takes images of any size, as several scales need.
    """
    size = None if any_size else recipe.resolution
    options = {} if recipe.dropout_rate is None else {"dropout_rate": recipe.dropout_rate}
    return build_model(
        recipe.model,
        weights=None,
        input_shape=(size, size, 3),
        classes=num_classes,
        drop_path_rate=recipe.drop_path_rate,
        **options,
        **recipe.model_options,
    )


def logits_view(model: keras.Model) -> keras.Model:
    """The network up to its softmax, sharing all layers: what a loss on logits is trained with."""
    return keras.Model(
        model.input, model.get_layer("predictions").input, name=f"{model.name}_logits"
    )


def compile_for_training(model: keras.Model, recipe: Recipe, steps: int):
    """Compiles a view that ends in logits: loss, metrics, optimiser."""
    model.compile(
        optimizer=make_optimizer(recipe, model, steps),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile="auto" if recipe.jit_compile is None else recipe.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # a loss scale may have been put around it
    # Metrics that have no variables before the first step would make TensorFlow trace it twice.
    shape = (1, model.output_shape[-1])
    model.compute_metrics(None, np.ones(shape, "float32"), np.ones(shape, "float32"))
    model.reset_metrics()


# More of the first weights than this in a moving average make it worse than the weights.
MOST_OF_FIRST_WEIGHTS = 0.05


def without_vain_average(recipe: Recipe, updates: int) -> tuple[Recipe, str | None]:
    """The recipe without its moving average, where the run is too short for one.

    Args:
        recipe: its numbers.
        updates: of the weights, in the whole run.

    Returns: the recipe, and a sentence where the average was left out.
    """
    if recipe.ema_momentum is None:
        return recipe, None
    share = first_weights_share(recipe, updates)
    if share <= MOST_OF_FIRST_WEIGHTS:
        return recipe, None
    said = (
        f"no moving average: after the {updates} updates of this run, {share:.0%} of it would "
        "still be the first weights"
    )
    return dataclasses.replace(recipe, ema_momentum=None), said


def train(
    recipe: Recipe,
    data: str | ImageSource,
    folder: str | os.PathLike,
    *,
    data_dir: str | None = None,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    stream: TextIO = sys.stderr,
    distribution: Distribution | None = None,
    tensorboard: bool = False,
) -> Run | None:
    """Trains from scratch with `model.fit`, or goes on where an interrupted run ended.

    After each epoch `folder` holds `state.npz` (all that a resumed run needs), `history.csv` and
    `best.keras` (the model of the best epoch); at the end `model.keras` (that of the last). The
    weights' moving average is evaluated and saved where the recipe has one. Ctrl-C and SIGTERM end
    the run after the step, with a state from which it goes on as if nothing had happened.

    Args:
        recipe: its numbers.
        data: a name for `open_source`, or an open source.
        folder: of the run, new or the same run's.
        data_dir: of TFDS.
        callbacks: more Keras callbacks.
        stream: where progress goes.
        distribution: from `open_distribution`; None for one device. Of several processes the first
            reads and writes `folder`; the others need not see it.
        tensorboard: whether metrics go to a log for TensorBoard in `folder`, too.

    Returns: the finished `Run`, at once where `folder` holds one; None in other processes than the
        first.

    Raises:
        ValueError: when `folder` holds a run of another recipe or data set, or is in a bucket.
        FolderInUseError: when another process trains into `folder`.
        TrainingStoppedError: when the run was told to end.
        TrainingDivergedError: when the loss is no finite number.
        ProcessLostError: when another process has ended.
    """
    distribution = distribution or Distribution()
    folder = local_path(folder)
    source = data if isinstance(data, ImageSource) else open_source(data, data_dir)
    with distribution.scope(), contextlib.ExitStack() as stack:
        return _train(recipe, source, folder, callbacks, stream, distribution, tensorboard, stack)


def _train(recipe, source, folder, callbacks, stream, distribution, tensorboard, stack):
    share, is_main = distribution.share, distribution.is_main
    distribution.check(recipe)
    steps = steps_per_epoch(source, recipe, share)
    distribution.agree("recipe and data", json.dumps([source.name, as_plain(recipe)]))
    if is_main:
        check_folder(folder, recipe, data_facts(source), (STATE_FILE, MODEL_FILE))
    if distribution.decide((folder / MODEL_FILE).exists()):
        if not is_main:
            return None
        print(f"{folder} holds a finished run", file=stream)
        return load_run(folder)
    is_new = not folder.exists()
    if is_main and not is_new:
        stack.enter_context(locked_folder(folder))
    state_path = folder / STATE_FILE
    state = distribution.broadcast(state_path.read_bytes() if state_path.exists() else None)
    resumed = state is not None

    given = recipe
    recipe, said = without_vain_average(recipe, steps // recipe.accumulation_steps * recipe.epochs)
    if said and is_main:
        print(said, file=stream)
    keras.utils.set_random_seed(recipe.seed)
    model = new_network(recipe, len(source.class_names))
    if not resumed:
        load_initial_weights(model, recipe)
    network = training_network(recipe, model, apart=distribution.changes_layers)
    freeze_stages(network, recipe.frozen_stages)
    distribution.join_layers(network, recipe)
    teacher = open_teacher(recipe, len(source.class_names)) if recipe.teacher else None
    cached = None
    if recipe.teacher_cache is not None:
        cached = cached_logits(teacher, source, recipe, share, stream)
    view, average = training_view(network, recipe, None if cached else teacher)
    compile_for_training(view, recipe, steps)
    history = load_state(state_path, view, state) if resumed else []
    first_step, metrics = load_metrics(state_path, state) if resumed else (0, [])
    distribution.part_draws(view)
    training_data = training_dataset(source, recipe, len(history), share, cached, first_step)
    validation_data = evaluation_dataset(source, recipe, share=share)
    if is_main:
        if is_new:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_folder(folder))
        claim_folder(folder, given, data_facts(source))  # whatever can be refused has been
    if resumed and is_main:
        inside = f" and step {first_step} of the next" if first_step else ""
        print(f"resuming {folder} after epoch {len(history)}{inside}", file=stream)

    def save(name):
        if network is not model:
            model.set_weights(network.get_weights())
        if is_main:
            with whole_file(folder / name) as path:
                model.save(path)

    def save_best():
        if average is None:
            return save(BEST_FILE)
        with average.in_place():
            save(BEST_FILE)

    stop = StopOnSignal(lambda done: save_state(state_path, view, history, done), steps, first_step)
    standing = [
        StopOnNaN(state_path),
        *([average] if average else []),
        *([Progress(recipe.step_batch_size, recipe.epochs, steps, stream, first_step)] * is_main),
        Saver(folder, save_best, history, writes=is_main),
        *([TensorBoardLog(folder, history)] * (tensorboard and is_main)),
        *callbacks,
        *([stop] if share.processes == 1 else []),  # several would have to agree on the step
    ]

    def fit(data, first_epoch, epochs, steps, *more):
        view.fit(
            data,
            steps_per_epoch=steps,
            initial_epoch=first_epoch,
            epochs=epochs,
            validation_data=validation_data,
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=[*more, *standing],
        )

    with stop.listening() if share.processes == 1 else contextlib.nullcontext():
        if first_step:  # the rest of the epoch that was interrupted
            rest = training_data.take(steps - first_step)
            epoch = len(history)
            fit(rest, epoch, epoch + 1, steps - first_step, ResumedMetrics(metrics))
            training_data = training_dataset(source, recipe, epoch + 1, share, cached)
        if len(history) < recipe.epochs and not (first_step and view.stop_training):
            fit(training_data, len(history), recipe.epochs, steps)
    scores = {"weights": "last", "val_accuracy": history[-1]["val_accuracy"]}
    if average:
        last = view.evaluate(validation_data, verbose=0, return_dict=True)
        scores |= {"weights": "average", "val_accuracy_of_last": float(last["accuracy"])}
        average.set_model(view)
        average.finalize()
    save(MODEL_FILE)
    if not is_main:
        return None
    claim_folder(folder, given, {**data_facts(source), "saved": scores})
    print(describe_saved(scores), file=stream)
    return Run(folder, given, source.name, source.class_names, history, model)


def describe_saved(scores: dict) -> str:
    """Which weights a run has saved, and how they and the others score, in a line.

    Args:
        scores: "weights" ("average" or "last"), "val_accuracy", and "val_accuracy_of_last" where
            the average was saved.
    """
    accuracy = f"{scores['val_accuracy']:.2%} of the evaluation images right"
    if scores["weights"] == "last":
        return f"saved the last weights: {accuracy}"
    return (
        f"saved the moving average of the weights: {accuracy}, "
        f"{scores['val_accuracy_of_last']:.2%} with the last weights themselves"
    )


def training_view(
    network: keras.Model, recipe: Recipe, teacher: Teacher | None = None
) -> tuple[keras.Model, MovingAverage | None]:
    """What `fit` is called on, and the callback of its moving average where the recipe has one.

    Args:
        network: that is trained.
        recipe: with its average and its teacher.
        teacher: None where there is none, or its logits come with the labels.
    """
    outputs = head_logits(network) if recipe.teacher else logits_view(network).output
    fused = fuse_norms(keras.Model(network.input, outputs))
    inputs, outputs = fused.input, fused.output
    average = None
    if recipe.ema_momentum is not None:
        outputs, statistics = average_statistics(outputs, network, recipe)
        average = MovingAverage(statistics)
    name = f"{network.name}_logits"
    if recipe.teacher is None:
        return keras.Model(inputs, outputs, name=name), average
    view = DistillationView(inputs, outputs, recipe=recipe, teacher=teacher, name=name)
    return view, average


def training_network(recipe: Recipe, model: keras.Model, apart: bool = False) -> keras.Model:
    """What is trained: the model, or its like for images of any size, in mixed precision, with
    frozen stages or otherwise `apart`: the model itself stays plain, as it is saved."""
    plain = not recipe.scales and recipe.frozen_stages is None and not apart
    if plain and recipe.precision == keras.config.dtype_policy().name:
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        network = new_network(recipe, model.output_shape[-1], any_size=bool(recipe.scales))
    finally:
        keras.config.set_dtype_policy(policy)
    network.set_weights(model.get_weights())
    return network
