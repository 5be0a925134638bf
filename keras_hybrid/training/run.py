"""A training run: a recipe, a data set and a folder, resumed wherever it was interrupted."""

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.models.catalogue import build_model
from keras_hybrid.training.callbacks import Progress, Saver, StopOnNaN
from keras_hybrid.training.checkpoint import load_state
from keras_hybrid.training.files import whole_file, write_text
from keras_hybrid.training.optimization import make_optimizer
from keras_hybrid.training.pipeline import evaluation_dataset, steps_per_epoch, training_dataset
from keras_hybrid.training.recipe import Recipe
from keras_hybrid.training.sources import ImageSource, open_source

RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
BEST_FILE = "best.keras"
STATE_FILE = "state.npz"


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


def make_model(recipe: Recipe, num_classes: int, any_size: bool = False) -> keras.Model:
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
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
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
    folder,
    *,
    data_dir: str | None = None,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    stream=sys.stderr,
) -> Run:
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

    Returns: the finished `Run`; at once where `folder` holds one.

    Raises:
        ValueError: when `folder` holds a run of another recipe or data set.
        TrainingDivergedError: when the loss is no finite number.
    """
    folder = Path(folder)
    source = open_source(data, data_dir) if isinstance(data, str) else data
    steps = steps_per_epoch(source, recipe)
    _claim(folder, recipe, source)
    if (folder / MODEL_FILE).exists():
        print(f"{folder} holds a finished run", file=stream)
        return load_run(folder)

    keras.utils.set_random_seed(recipe.seed)
    model = make_model(recipe, len(source.class_names))
    network = training_network(recipe, model)
    view = logits_view(network)
    compile_for_training(view, recipe, steps)
    history = []
    if (folder / STATE_FILE).exists():
        history = load_state(folder / STATE_FILE, view)
        print(f"resuming {folder} after epoch {len(history)}", file=stream)

    average = keras.callbacks.SwapEMAWeights() if recipe.ema_momentum is not None else None

    def save(name):
        if network is not model:
            model.set_weights(network.get_weights())
        with whole_file(folder / name) as path:
            model.save(path)

    def save_best():
        with _averaged(average):
            save(BEST_FILE)

    if len(history) < recipe.epochs:
        view.fit(
            training_dataset(source, recipe, first_epoch=len(history)),
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=recipe.epochs,
            validation_data=evaluation_dataset(source, recipe),
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=[
                StopOnNaN(folder / STATE_FILE),
                *([average] if average else []),
                Progress(recipe.step_batch_size, recipe.epochs, steps, stream),
                Saver(folder, save_best, history),
                *callbacks,
            ],
        )
    view.optimizer.finalize_variable_values(view.trainable_variables)
    save(MODEL_FILE)
    return Run(folder, recipe, source.name, source.class_names, history, model)


def training_network(recipe: Recipe, model: keras.Model) -> keras.Model:
    """What is trained: the model, or its like for images of any size or in mixed precision."""
    if not recipe.scales and recipe.precision == keras.config.dtype_policy().name:
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        network = make_model(recipe, model.output_shape[-1], any_size=bool(recipe.scales))
    finally:
        keras.config.set_dtype_policy(policy)
    network.set_weights(model.get_weights())
    return network


@contextlib.contextmanager
def _averaged(average):
    """The moving average in place of the weights, for the length of a block."""
    if average is None:
        yield
        return
    average.on_predict_begin()
    try:
        yield
    finally:
        average.on_predict_end()


def _claim(folder, recipe, source):
    """Writes what the run is, or checks that the folder's run is the same."""
    wanted = {
        "recipe": recipe.as_dict(),
        "data": source.name,
        "class_names": list(source.class_names),
    }
    path = folder / RUN_FILE
    if not path.exists():
        write_text(path, json.dumps(wanted, indent=1) + "\n")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found == wanted:
        return
    different = [
        f"{name}={found['recipe'].get(name)!r} there, {value!r} now"
        for name, value in wanted["recipe"].items()
        if found["recipe"].get(name) != value
    ]
    if found["data"] != wanted["data"]:
        different.append(f"data={found['data']!r} there, {wanted['data']!r} now")
    raise ValueError(
        "The folder holds another run: choose another, or remove it. "
        f"Received: folder={str(folder)!r}, {'; '.join(different) or 'other classes'}"
    )


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
