"""A training run: a recipe, a data set and a folder, resumed wherever it was interrupted."""

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TextIO

import keras

from keras_hybrid.commentary import STANDARD_ERROR
from keras_hybrid.files import (
    BEST_FILE,
    MODEL_FILE,
    STATE_FILE,
    is_bucket,
    locked_folder,
    place,
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
from keras_hybrid.training.optimization.precision import precision_of
from keras_hybrid.training.optimization.schedules import make_optimizer
from keras_hybrid.training.recipe.common import CommonRecipe, as_plain
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.run.callbacks import Measure, Progress, Saver, StopOnNaN
from keras_hybrid.training.run.fused_norms import training_norms
from keras_hybrid.training.run.interruption import SaveByClock, StopOnSignal
from keras_hybrid.training.run.run_folder import (
    Run,
    check_folder,
    claim_folder,
    load_run,
    run_facts,
)
from keras_hybrid.training.run.step_logs import StepCallbacks
from keras_hybrid.training.run.tensorboard import TensorBoardLog
from keras_hybrid.training.run.training_state import (
    ResumedMetrics,
    load_metrics,
    load_state,
    read_state,
    remove_older_states,
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
    optimizer = make_optimizer(recipe, view, steps)
    if precision_of(recipe) == "mixed_float16":  # small gradients would be 0
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
    view.compile(
        optimizer=optimizer,
        jit_compile="auto" if recipe.jit_compile is None else recipe.jit_compile,
        **task.losses(recipe, view),
    )
    view.optimizer.build(view.trainable_variables)
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
    stream: TextIO = STANDARD_ERROR,
    distribution: Distribution | None = None,
    tensorboard: bool = False,
    save_minutes: float | None = None,
    keep_states: int = 2,
) -> Run | None:
    """Trains from scratch with `model.fit`, or goes on where an interrupted run ended.

    After each epoch `folder` holds `state.npz` (all that a resumed run needs), `history.csv` and
    `best.keras` (the model of the best epoch); at the end `model.keras` (that of the last). The
    weights' moving average is evaluated and saved where the recipe has one. Ctrl-C and SIGTERM end
    the run after the step, with a state from which it goes on as if nothing had happened.

    A run goes on with other `run_folder.MAY_CHANGE` of its recipe, on other devices, and with the
    same data at another path; that is said.

    Args:
        recipe: its numbers.
        data: a name that the recipe's task opens, or an open source.
        folder: of the run, new or the same run's; of this machine, or in a bucket (gs://...).
        data_dir: of TFDS.
        callbacks: more Keras callbacks.
        stream: where progress goes.
        distribution: from `open_distribution`; None for one device. Of several processes the first
            reads and writes `folder`; the others need not see it.
        tensorboard: whether metrics go to a log for TensorBoard in `folder`, too.
        save_minutes: from one state to the next inside an epoch; None for states of whole epochs.
        keep_states: states that are kept until the run is finished: the newest, and those before
            it, to go on from where a disk has damaged that.

    Returns: the finished `Run`, at once where `folder` holds one; None in other processes than the
        first.

    Raises:
        ValueError: when `folder` holds a run of another recipe or data set, or is in a bucket that
            cannot be reached.
        FolderInUseError: when another process trains into `folder`.
        NotWrittenError: when the disk is full or `folder` read-only; the last state is whole.
        TrainingStoppedError: when the run was told to end.
        TrainingDivergedError: when the loss is no finite number.
        ProcessLostError: when another process has ended.
    """
    distribution = distribution or Distribution()
    folder = place(folder)
    if keep_states < 1 or (save_minutes is not None and save_minutes <= 0):
        raise ValueError(
            "`keep_states` must be 1 or more and `save_minutes` positive. "
            f"Received: keep_states={keep_states}, save_minutes={save_minutes}"
        )
    if tensorboard and is_bucket(folder) and not os.fspath(folder).startswith("gs://"):
        raise ValueError(
            "TensorFlow writes logs to folders and to gs://: leave `tensorboard` out. "
            f"Received: folder={os.fspath(folder)!r}"
        )
    task = task_of(recipe)
    source = data if isinstance(data, ImageSource) else task.open_source(data, data_dir)
    saving = Saving(save_minutes, keep_states, tensorboard)
    source = task.prepared_source(source, recipe)
    with distribution.scope(), contextlib.ExitStack() as stack:
        return _train(task, recipe, source, folder, callbacks, stream, distribution, saving, stack)


@dataclass(frozen=True)
class Saving:
    """What a run writes beside its models: see `train`."""

    minutes: float | None
    keep: int
    tensorboard: bool


def _train(task, recipe, source, folder, callbacks, stream, distribution, saving, stack):
    share, is_main = distribution.share, distribution.is_main
    distribution.check(recipe)
    steps = steps_per_epoch(source, recipe, share)
    distribution.agree("recipe and data", json.dumps([source.name, as_plain(recipe)]))
    facts = run_facts(source, task, distribution.describe())
    changed = []
    if is_main:
        changed = check_folder(folder, recipe, facts, (STATE_FILE, MODEL_FILE))
    if distribution.decide((folder / MODEL_FILE).exists() if is_main else False):
        if not is_main:
            return None
        print(f"{folder} holds a finished run", file=stream)
        return load_run(folder)
    is_new = not folder.exists() if is_main else False
    if is_main and not is_new:
        stack.enter_context(locked_folder(folder))
    state_path = folder / STATE_FILE
    state = read_state(state_path, saving.keep, stream) if is_main else None
    state = distribution.broadcast(state)
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
    first_step, metrics = 0, []
    if resumed:
        first_step, metrics = load_metrics(state_path, state, recipe.accumulation_steps)
    distribution.part_draws(view)
    training_data = task.training_dataset(source, recipe, len(history), share, cached, first_step)
    validation_data = task.evaluation_dataset(source, recipe, share)
    if is_main:
        if is_new and not is_bucket(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            stack.enter_context(locked_folder(folder))
        claim_folder(folder, given, facts)  # whatever can be refused has been
    if resumed and is_main:
        inside = f" and step {first_step} of the next" if first_step else ""
        print(f"resuming {folder} after epoch {len(history)}{inside}", file=stream)
        for change in changed:
            print(f"goes on with another {change}", file=stream)

    def save(name):
        if network is not model:
            copy_weights(network, model)
        if is_main:
            with whole_file(folder / name) as path:
                model.save(path)

    measured = type(task).measure is not Task.measure
    judge = model
    if measured and is_main and share.devices > 1:
        with distribution.apart():
            judge = new_network(recipe, len(source.class_names))

    def measure():
        figures = None
        if is_main:
            if network is not judge:
                copy_weights(network, judge)
            with distribution.apart():
                figures = json.dumps(task.measure(judge, source, recipe)).encode()
        return json.loads(distribution.broadcast(figures))

    def measure_best():
        if average is None:
            return measure()
        with average.in_place():
            return measure()

    def save_best():
        if average is None:
            return save(BEST_FILE)
        with average.in_place():
            save(BEST_FILE)

    def save_inside(done):
        if is_main:
            save_state(state_path, view, history, done, saving.keep)

    metric = task.metric(recipe)
    nan = StopOnNaN(state_path)
    inside = {
        "save": save_inside,
        "check": nan.check,
        "steps": steps,
        "accumulation_steps": recipe.accumulation_steps,
        "first_step": first_step,
    }
    several = share.processes > 1
    stop = StopOnSignal(distribution.told_to_stop if several else None, **inside)
    by_clock = saving.minutes is not None and is_main
    standing = [
        nan,
        *([average] if average else []),
        *([Measure(measure_best)] if measured else []),
        *([Progress(recipe.step_batch_size, recipe.epochs, steps, stream, first_step)] * is_main),
        Saver(folder, save_best, history, f"val_{metric}", writes=is_main, keep=saving.keep),
        *([SaveByClock(saving.minutes, **inside)] if by_clock else []),
        *([TensorBoardLog(folder, history)] * (saving.tensorboard and is_main)),
        *callbacks,
        stop,
    ]
    evaluated = [
        epoch
        for epoch in range(1, recipe.epochs + 1)
        if epoch % recipe.validation_every == 0 or epoch == recipe.epochs
    ]

    def fit(data, first_epoch, epochs, steps, *more):
        _set_execution(view, recipe, steps, stream if is_main else None)
        view.fit(
            data,
            steps_per_epoch=steps,
            initial_epoch=first_epoch,
            epochs=epochs,
            validation_data=validation_data,
            validation_freq=evaluated,
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=StepCallbacks([*more, *standing], view, epochs, steps),
        )

    with stop.listening():
        if first_step:  # the rest of the epoch that was interrupted
            rest = training_data.take(steps - first_step)
            epoch = len(history)
            fit(rest, epoch, epoch + 1, steps - first_step, ResumedMetrics(metrics))
            training_data = task.training_dataset(source, recipe, epoch + 1, share, cached)
        if len(history) < recipe.epochs and not (first_step and view.stop_training):
            fit(training_data, len(history), recipe.epochs, steps)
    score = f"val_{metric}"
    found = next((row[score] for row in reversed(history) if score in row), float("nan"))
    scores = {"weights": "last", score: found}
    if average:
        last = (
            measure() if measured else view.evaluate(validation_data, return_dict=True, verbose=0)
        )
        scores |= {"weights": "average", f"{score}_of_last": float(last[metric])}
        average.set_model(view)
        average.finalize()
    save(MODEL_FILE)
    if not is_main:
        return None
    claim_folder(folder, given, {**facts, "saved": scores})
    remove_older_states(state_path)
    print(describe_saved(scores, task, score), file=stream)
    return Run(folder, given, source.name, source.class_names, history, model)


def _set_execution(view, recipe, steps, stream):
    """Sets how many steps the device takes in a row: as many as the recipe says, or the next
    number below that divides the steps of an epoch, which must not reach into the next one."""
    asked = min(recipe.steps_per_execution, steps)
    taken = next(number for number in range(asked, 0, -1) if steps % number == 0)
    if taken != recipe.steps_per_execution and stream is not None:
        print(
            f"{taken} steps in a row in place of steps_per_execution={recipe.steps_per_execution}, "
            f"which does not divide {steps} steps",
            file=stream,
        )
    if view.steps_per_execution != taken:
        view.steps_per_execution = taken
        view.train_function = view.test_function = None  # which have been made for another number


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
        return task.view(recipe, keras.Model(inputs, outputs, name=name)), average
    view = DistillationView(inputs, outputs, recipe=distilled, teacher=teacher, name=name)
    return view, average


def training_network(recipe: CommonRecipe, model: keras.Model, apart: bool = False) -> keras.Model:
    """What is trained: the model, or its like for images of any size, in mixed precision, with
    frozen stages, with more in training or otherwise `apart`: the model itself stays plain, as it
    is saved."""
    task = task_of(recipe)
    more = task.trains_more(recipe)
    plain = not (recipe.any_size or more or apart) and recipe.frozen_stages is None
    precision = precision_of(recipe)
    if plain and precision == keras.config.dtype_policy().name:
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        make = task.trained_network if more else new_network
        network = make(recipe, task.classes_of(model), any_size=recipe.any_size)
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
