"""A training run: a recipe, a data set and a folder, resumed wherever it was interrupted."""

import json
import os
import sys
from pathlib import Path
from typing import TextIO

import keras
import numpy as np

from keras_hybrid.files import BEST_FILE, MODEL_FILE, STATE_FILE, whole_file
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.training.data.pipeline import (
    evaluation_dataset,
    steps_per_epoch,
    training_dataset,
)
from keras_hybrid.training.data.sources import ImageSource, open_source
from keras_hybrid.training.distillation.distilled_training import DistillationView, head_logits
from keras_hybrid.training.distillation.teacher import Teacher, open_teacher
from keras_hybrid.training.distillation.teacher_cache import cached_logits
from keras_hybrid.training.distribution.distribution import Distribution
from keras_hybrid.training.optimization.averaging import MovingAverage, average_statistics
from keras_hybrid.training.optimization.finetuning import load_initial_weights
from keras_hybrid.training.optimization.layer_depth import freeze_stages
from keras_hybrid.training.optimization.schedules import make_optimizer
from keras_hybrid.training.recipe.recipe import Recipe, as_plain
from keras_hybrid.training.run.callbacks import Progress, Saver, StopOnNaN
from keras_hybrid.training.run.fused_norms import fuse_norms
from keras_hybrid.training.run.run_folder import (
    Run,
    check_folder,
    claim_folder,
    data_facts,
    load_run,
)
from keras_hybrid.training.run.tensorboard import TensorBoardLog
from keras_hybrid.training.run.training_state import load_state


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
    weights' moving average is evaluated and saved where the recipe has one.

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
        ValueError: when `folder` holds a run of another recipe or data set.
        TrainingDivergedError: when the loss is no finite number.
        ProcessLostError: when another process has ended.
    """
    distribution = distribution or Distribution()
    source = open_source(data, data_dir) if isinstance(data, str) else data
    with distribution.scope():
        return _train(recipe, source, Path(folder), callbacks, stream, distribution, tensorboard)


def _train(recipe, source, folder, callbacks, stream, distribution, tensorboard):
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
    state_path = folder / STATE_FILE
    state = distribution.broadcast(state_path.read_bytes() if state_path.exists() else None)
    resumed = state is not None

    keras.utils.set_random_seed(recipe.seed)
    model = new_network(recipe, len(source.class_names))
    if not resumed:
        load_initial_weights(model, recipe)
    network = training_network(recipe, model, apart=distribution.changes_layers)
    freeze_stages(network, recipe.frozen_stages)
    distribution.join_layers(network)
    teacher = open_teacher(recipe, len(source.class_names)) if recipe.teacher else None
    cached = None
    if recipe.teacher_cache is not None:
        cached = cached_logits(teacher, source, recipe, share, stream)
    view, average = training_view(network, recipe, None if cached else teacher)
    compile_for_training(view, recipe, steps)
    history = load_state(state_path, view, state) if resumed else []
    distribution.part_draws(view)
    training_data = training_dataset(source, recipe, len(history), share, cached)
    validation_data = evaluation_dataset(source, recipe, share=share)
    if is_main:
        claim_folder(folder, recipe, data_facts(source))  # whatever can be refused has been
    if resumed and is_main:
        print(f"resuming {folder} after epoch {len(history)}", file=stream)

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

    if len(history) < recipe.epochs:
        view.fit(
            training_data,
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=recipe.epochs,
            validation_data=validation_data,
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=[
                StopOnNaN(state_path),
                *([average] if average else []),
                *([Progress(recipe.step_batch_size, recipe.epochs, steps, stream)] * is_main),
                Saver(folder, save_best, history, writes=is_main),
                *([TensorBoardLog(folder, history)] * (tensorboard and is_main)),
                *callbacks,
            ],
        )
    if average:
        average.set_model(view)
        average.finalize()
    save(MODEL_FILE)
    if not is_main:
        return None
    return Run(folder, recipe, source.name, source.class_names, history, model)


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
        momentum = recipe.ema_momentum ** (1 / recipe.accumulation_steps)  # norms see each batch
        outputs, statistics = average_statistics(outputs, network, momentum)
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
