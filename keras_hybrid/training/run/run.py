"""A training run: a recipe, a data set and a folder, resumed wherever it was interrupted."""

import contextlib
import dataclasses
import json
import os
import sys
from typing import TextIO

import keras

from keras_hybrid.files import (
    BEST_FILE,
    MODEL_FILE,
    STATE_FILE,
    local_path,
    locked_folder,
    whole_file,
)
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import steps_per_epoch
from keras_hybrid.training.distillation.distilled_training import DistillationView, head_logits
from keras_hybrid.training.distillation.teacher import Teacher, open_teacher
from keras_hybrid.training.distillation.teacher_cache import cached_logits
from keras_hybrid.training.distribution.distribution import Distribution
from keras_hybrid.training.optimization.averaging import (
    MovingAverage,
    average_statistics,
    first_weights_share,
)
from keras_hybrid.training.optimization.layer_depth import freeze_stages
from keras_hybrid.training.optimization.schedules import make_optimizer
from keras_hybrid.training.recipe.common import CommonRecipe, as_plain
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.run.callbacks import Progress, Saver, StopOnNaN
from keras_hybrid.training.run.fused_norms import training_norms
from keras_hybrid.training.run.interruption import StopOnSignal
from keras_hybrid.training.run.run_folder import (
    Run,
    check_folder,
    claim_folder,
    load_run,
    run_facts,
)
from keras_hybrid.training.run.tensorboard import TensorBoardLog
from keras_hybrid.training.run.training_state import (
    ResumedMetrics,
    load_metrics,
    load_state,
    save_state,
)
from keras_hybrid.training.tasks.of_recipe import task_of
from keras_hybrid.training.tasks.task import Task


def new_network(recipe: CommonRecipe, num_classes: int, any_size: bool = False) -> keras.Model:
    """The recipe's network as it is saved, new: a classifier with softmax, or a dense network.

    Args:
        recipe: model, resolution and rates.
        num_classes: of the data.
        any_size: whether it takes images of any size, as several scales need.
    """
    return task_of(recipe).new_network(recipe, num_classes, any_size)


def logits_view(model: keras.Model) -> keras.Model:
    """A classifier up to its softmax, sharing all layers: what a loss on logits is trained with."""
    return keras.Model(
        model.input, model.get_layer("predictions").input, name=f"{model.name}_logits"
    )


def compile_for_training(view: keras.Model, recipe: CommonRecipe, steps: int):
    """Compiles a view that ends in logits: loss, metrics, optimiser."""
    task = task_of(recipe)
    view.compile(
        optimizer=make_optimizer(recipe, view, steps),
        jit_compile="auto" if recipe.jit_compile is None else recipe.jit_compile,
        **task.losses(recipe, view),
    )
    view.optimizer.build(view.trainable_variables)  # a loss scale may have been put around it
    # Metrics that have no variables before the first step would make TensorFlow trace it twice.
    view.compute_metrics(None, *task.example(view))
    view.reset_metrics()


# More of the first weights than this in a moving average make it worse than the weights.
MOST_OF_FIRST_WEIGHTS = 0.05


def without_vain_average(recipe: CommonRecipe, updates: int) -> tuple[CommonRecipe, str | None]:
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
    recipe: CommonRecipe,
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
        data: a name that the recipe's task opens, or an open source.
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
    task = task_of(recipe)
    source = data if isinstance(data, ImageSource) else task.open_source(data, data_dir)
    with distribution.scope(), contextlib.ExitStack() as stack:
        return _train(
            task, recipe, source, folder, callbacks, stream, distribution, tensorboard, stack
        )


def _train(task, recipe, source, folder, callbacks, stream, distribution, tensorboard, stack):
    share, is_main = distribution.share, distribution.is_main
    distribution.check(recipe)
    steps = steps_per_epoch(source, recipe, share)
    distribution.agree("recipe and data", json.dumps([source.name, as_plain(recipe)]))
    if is_main:
        check_folder(folder, recipe, run_facts(source, task), (STATE_FILE, MODEL_FILE))
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
        task.load_initial_weights(model, recipe)
    network = training_network(recipe, model, apart=distribution.changes_layers)
    freeze_stages(network, recipe.frozen_stages)
    distribution.join_layers(network, recipe)
    distilled, teacher, cached = distilled_recipe(recipe), None, None
    if distilled is not None:
        teacher = open_teacher(distilled, len(source.class_names))
        if distilled.teacher_cache is not None:
            cached = cached_logits(teacher, source, distilled, share, stream)
    view, average = training_view(network, recipe, None if cached else teacher)
    compile_for_training(view, recipe, steps)
    history = load_state(state_path, view, state) if resumed else []
    first_step, metrics = load_metrics(state_path, state) if resumed else (0, [])
    distribution.part_draws(view)
    training_data = task.training_dataset(source, recipe, len(history), share, cached, first_step)
    validation_data = task.evaluation_dataset(source, recipe, share)
    if is_main:
        if is_new:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_folder(folder))
        claim_folder(folder, given, run_facts(source, task))  # whatever can be refused has been
    if resumed and is_main:
        inside = f" and step {first_step} of the next" if first_step else ""
        print(f"resuming {folder} after epoch {len(history)}{inside}", file=stream)

    def save(name):
        if network is not model:
            copy_weights(network, model)
        if is_main:
            with whole_file(folder / name) as path:
                model.save(path)

    def save_best():
        if average is None:
            return save(BEST_FILE)
        with average.in_place():
            save(BEST_FILE)

    metric = task.metric(recipe)
    stop = StopOnSignal(lambda done: save_state(state_path, view, history, done), steps, first_step)
    standing = [
        StopOnNaN(state_path),
        *([average] if average else []),
        *([Progress(recipe.step_batch_size, recipe.epochs, steps, stream, first_step)] * is_main),
        Saver(folder, save_best, history, f"val_{metric}", writes=is_main),
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
            training_data = task.training_dataset(source, recipe, epoch + 1, share, cached)
        if len(history) < recipe.epochs and not (first_step and view.stop_training):
            fit(training_data, len(history), recipe.epochs, steps)
    score = f"val_{metric}"
    scores = {"weights": "last", score: history[-1][score]}
    if average:
        last = view.evaluate(validation_data, verbose=0, return_dict=True)
        scores |= {"weights": "average", f"{score}_of_last": float(last[metric])}
        average.set_model(view)
        average.finalize()
    save(MODEL_FILE)
    if not is_main:
        return None
    claim_folder(folder, given, {**run_facts(source, task), "saved": scores})
    print(describe_saved(scores, task, score), file=stream)
    return Run(folder, given, source.name, source.class_names, history, model)


def describe_saved(scores: dict, task: Task, score: str) -> str:
    """Which weights a run has saved, and how they and the others score, in a line.

    Args:
        scores: "weights" ("average" or "last"), the score, and the same with "_of_last" where the
            average was saved.
        task: whose score it is.
        score: its name.
    """
    found = f"{scores[score]:.2%} {task.title} on the evaluation images"
    if scores["weights"] == "last":
        return f"saved the last weights: {found}"
    return (
        f"saved the moving average of the weights: {found}, "
        f"{scores[f'{score}_of_last']:.2%} with the last weights themselves"
    )


def distilled_recipe(recipe: CommonRecipe) -> Recipe | None:
    """The recipe where it has a teacher; None where there is none, as of all but classifiers."""
    return recipe if isinstance(recipe, Recipe) and recipe.teacher is not None else None


def training_view(
    network: keras.Model, recipe: CommonRecipe, teacher: Teacher | None = None
) -> tuple[keras.Model, MovingAverage | None]:
    """What `fit` is called on, and the callback of its moving average where the recipe has one.

    Args:
        network: that is trained.
        recipe: with its average and its teacher.
        teacher: None where there is none, or its logits come with the labels.
    """
    task, distilled = task_of(recipe), distilled_recipe(recipe)
    outputs = head_logits(network) if distilled else task.outputs(network)
    fused = training_norms(
        keras.Model(network.input, outputs), lambda layer: task.keeps_statistics(recipe, layer)
    )
    inputs, outputs = fused.input, fused.output
    average = None
    if recipe.ema_momentum is not None:
        outputs, statistics = average_statistics(outputs, network, recipe)
        average = MovingAverage(statistics)
    name = f"{network.name}_logits"
    if distilled is None:
        return keras.Model(inputs, outputs, name=name), average
    view = DistillationView(inputs, outputs, recipe=distilled, teacher=teacher, name=name)
    return view, average


def training_network(recipe: CommonRecipe, model: keras.Model, apart: bool = False) -> keras.Model:
    """What is trained: the model, or its like for images of any size, in mixed precision, with
    frozen stages, with more in training or otherwise `apart`: the model itself stays plain, as it
    is saved."""
    task = task_of(recipe)
    more = task.trains_more(recipe)
    plain = not (recipe.any_size or more or apart) and recipe.frozen_stages is None
    if plain and recipe.precision == keras.config.dtype_policy().name:
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        make = task.trained_network if more else new_network
        network = make(recipe, model.output_shape[-1], any_size=recipe.any_size)
    finally:
        keras.config.set_dtype_policy(policy)
    copy_weights(model, network)
    return network


def copy_weights(source: keras.Model, target: keras.Model):
    """Gives a network the weights of another, layer by layer by their names; others stay."""
    layers = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights and layer.name in layers:
            layer.set_weights(layers[layer.name].get_weights())
