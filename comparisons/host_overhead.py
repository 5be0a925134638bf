"""What a training step costs the host beside the compiled step: before and after, in one run.

    python comparisons/host_overhead.py
    KERAS_BACKEND=jax python comparisons/host_overhead.py --steps=400 --blocks=9

Processor seconds of this process for each step of `fit` on a network so small that its own step
counts for little, less those of the step alone, a hundred of them compiled into one program.
"read at each step" is Keras' own list of callbacks with a progress bar and a stop on NaN that read
the metrics of every step, as the programs here had it before; "read now and then" is what `train`
does; then the same with steps in a row (`steps_per_execution`). Blocks alternate. No images are
decoded: data are one batch, again and again. Takes about a minute.
"""

import dataclasses
import io
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 200, "Steps of a block, a multiple of 100.", lower_bound=100)
flags.DEFINE_integer("blocks", 7, "Blocks of each variant.", lower_bound=1)
IN_A_ROW = 10
ALONE = 100


def small_view(steps_per_execution):
    """A compiled network for images of 8 px, and its recipe."""
    import keras

    from keras_hybrid.training.recipe.recipe import Recipe
    from keras_hybrid.training.run.run import compile_for_training

    recipe = Recipe(
        model="MobileViTXXS",
        epochs=1,
        batch_size=8,
        learning_rate=1e-3,
        resolution=64,
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    view = keras.Model(image, keras.layers.Dense(4, name="head_fc")(x))
    compile_for_training(view, dataclasses.replace(recipe, epochs=10**6), 1)
    view.steps_per_execution = steps_per_execution
    return view


def read_at_each_step(keras, tqdm):
    """What progress and the stop on NaN did before: each brings the metrics to the host."""

    class Progress(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.bar = tqdm(total=1, file=io.StringIO(), disable=None)

        def on_train_batch_end(self, batch, logs=None):
            self.bar.set_postfix({n: f"{v:.4g}" for n, v in logs.items()}, refresh=False)
            self.bar.update(8)

    class StopOnNaN(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert logs["loss"] < float("inf")

    return [StopOnNaN(), Progress()]


def step_alone(view, batch):
    """A function of a number of steps that runs the compiled step, without a host between.

    Args:
        view: compiled, for `ALONE` steps in a row.
        batch: images and labels.
    """
    import keras

    batch = tuple(keras.ops.convert_to_tensor(array) for array in batch)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = iter(tf.data.Dataset.from_tensors(batch).repeat())
        view.make_train_function(force=True)

        def run(steps):
            for _ in range(steps // ALONE):
                logs = view.train_function(data)
            float(logs["loss"])

        return run
    import jax

    state = (
        [variable.value for variable in view.trainable_variables],
        [variable.value for variable in view.non_trainable_variables],
        [variable.value for variable in view.optimizer.variables],
        [variable.value for variable in view.metrics_variables],
    )
    several = jax.jit(
        lambda state: jax.lax.fori_loop(
            0, ALONE, lambda _, state: view.train_step(state, batch)[1], state
        )
    )

    def run(steps):
        found = state
        for _ in range(steps // ALONE):
            found = several(found)
        jax.block_until_ready(found)

    return run


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if FLAGS.steps % ALONE:
        raise app.UsageError(f"--steps must be a multiple of {ALONE}")
    import keras
    import numpy as np
    import tensorflow as tf
    from tqdm import tqdm

    from keras_hybrid.training.run.callbacks import Progress, StopOnNaN
    from keras_hybrid.training.run.startup import prepare_process
    from keras_hybrid.training.run.step_logs import StepCallbacks

    prepare_process()
    if keras.backend.backend() == "torch":
        raise app.UsageError("the backends are tensorflow and jax")
    batch = np.ones((8, 8, 8, 3), "float32"), np.eye(4, dtype="float32")[np.arange(8) % 4]
    data = tf.data.Dataset.from_tensors(batch).repeat().prefetch(4)
    now = [StopOnNaN("state.npz"), Progress(8, 1, FLAGS.steps, io.StringIO())]

    def fit(view, make_callbacks):
        def run(steps):
            view.fit(
                data, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=make_callbacks(view)
            )

        return run

    def as_now(view):
        return StepCallbacks(now, view, 1, FLAGS.steps)

    one = small_view(1)
    variants = {
        "the compiled step alone": step_alone(small_view(ALONE), batch),
        "read at each step (before)": fit(one, lambda view: read_at_each_step(keras, tqdm)),
        "read now and then (now)": fit(one, as_now),
        f"the same, {IN_A_ROW} steps in a row": fit(small_view(IN_A_ROW), as_now),
    }
    seconds = {name: [] for name in variants}
    for run in variants.values():
        run(FLAGS.steps)  # compiles
    for block in range(FLAGS.blocks):
        names = list(variants)
        for name in names[block % len(names) :] + names[: block % len(names)]:
            start = time.process_time()
            variants[name](FLAGS.steps)
            seconds[name].append((time.process_time() - start) / FLAGS.steps)
    alone, before, *_ = (statistics.median(values) for values in seconds.values())
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, processor time a step:")
    print(f"{'':<32}{'all, ms':>9}{'beside the step, ms':>21}{'of before':>11}")
    for name, values in seconds.items():
        median = statistics.median(values)
        beside = median - alone
        share = "" if name.startswith("the comp") else f"{beside / (before - alone):.2f}"
        print(f"{name:<32}{1e3 * median:>9.3f}{1e3 * beside:>21.3f}{share:>11}")


if __name__ == "__main__":
    app.run(main)
