"""A run that is ended at random moments, by SIGKILL, SIGTERM and Ctrl-C, beside one that is not.

    python comparisons/interrupt_runs.py --moments=20
    KERAS_BACKEND=jax python comparisons/interrupt_runs.py --moments=20 --seed=1

A small network with batch norm, dropout, mixup and a moving average; states are saved inside epochs
all the time. At a random step of each process, and up to some milliseconds into it, comes SIGKILL,
SIGTERM or Ctrl-C; the same command goes on. Prints where each process ended, and whether the final
weights are those of the uninterrupted run, bit by bit: exit status 1 where they are not. Sums are
in one order (one thread), as bits need it. A start takes some ten seconds.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("moments", 20, "Processes that are ended.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of the moments.")
flags.DEFINE_string("worker", None, "Train into this folder, in a process of its own.")
flags.DEFINE_string("end", "", "For the worker: signal, step and seconds, with spaces between.")

ROOT = Path(__file__).resolve().parents[1]
EPOCHS, STEPS = 6, 16
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
STOPPED = 3


def small_network(recipe, num_classes, any_size=False):
    """A classifier that trains in milliseconds, with what draws at random."""
    import keras

    size = None if any_size else recipe.resolution
    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(8, 8, strides=8, name="stem_conv")(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="stem_norm")(x))
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    x = keras.layers.Dense(num_classes, name="head_fc")(x)
    return keras.Model(image, keras.layers.Activation("softmax", name="predictions")(x))


def noise():
    """Images of noise around a grey that tells their class."""
    import numpy as np
    import tensorflow as tf

    from keras_hybrid.training.data.image_source import ImageSource

    rng = np.random.default_rng(0)
    labels = np.arange(STEPS * 8 + 16) % 4
    images = rng.normal(60 * labels[:, None, None, None], 20, (len(labels), 16, 16, 3))
    files = [tf.io.encode_png(image.clip(0, 255).astype("uint8")).numpy() for image in images]
    parts = {"train": slice(16, None), "test": slice(16)}

    def open_split(name):
        labels_of_split = labels[parts[name]].astype("int64")
        return tf.data.Dataset.from_tensor_slices(
            {"image": files[parts[name]], "label": labels_of_split}
        )

    return ImageSource("noise", tuple("abcd"), {"train": STEPS * 8, "test": 16}, open_split)


def work(folder):
    """Trains, or goes on, until the moment that the parent chose."""
    import keras
    import tensorflow as tf

    from keras_hybrid.training.recipe.recipe import Recipe
    from keras_hybrid.training.run import run
    from keras_hybrid.training.run.interruption import TrainingStoppedError

    tf.config.threading.set_intra_op_parallelism_threads(1)
    name, step, delay = (FLAGS.end or "none 0 0").split()

    class End(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if name != "none" and self.steps == int(step):
                number = getattr(signal, name)
                threading.Timer(float(delay), os.kill, [os.getpid(), number]).start()

        def on_train_end(self, logs=None):
            time.sleep(float(delay))  # what was to come comes before the end

    run.new_network = small_network
    recipe = Recipe(
        model="MobileViTXXS",
        resolution=64,
        epochs=EPOCHS,
        batch_size=8,
        learning_rate=3e-3,
        mixup=0.5,
        weight_decay=0.05,
        ema_momentum=0.9,
        jit_compile=False if keras.backend.backend() == "tensorflow" else None,
    )
    try:
        run.train(recipe, noise(), folder, callbacks=(End(),), save_minutes=1e-9)
    except TrainingStoppedError:
        sys.exit(STOPPED)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    sys.path.insert(0, str(ROOT))
    if FLAGS.worker:
        work(FLAGS.worker)
        return 0
    draw = random.Random(FLAGS.seed)
    xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": xla}

    def process(folder, end=""):
        command = [sys.executable, __file__, f"--worker={folder}", f"--end={end}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode not in (0, STOPPED, -signal.SIGKILL):
            sys.exit(f"{end}: ended with {done.returncode}\n{done.stderr[-3000:]}")
        where = [line for line in done.stderr.splitlines() if line.startswith("resuming")]
        return done.returncode, (where or ["from the beginning"])[0].rpartition("after ")[2]

    with tempfile.TemporaryDirectory() as out:
        whole, cut = Path(out, "whole"), Path(out, "cut")
        process(whole)
        share = EPOCHS * STEPS / FLAGS.moments
        for number in range(FLAGS.moments):
            name = SIGNALS[number % len(SIGNALS)]
            step = draw.randint(1, max(1, round(1.5 * share)))
            end = f"{name} {step} {draw.uniform(0, 0.02):.4f}"
            status, where = process(cut, end)
            print(f"{end}: status {status}, began {where}", flush=True)
            if status == 0:
                break
        process(cut)

        import keras
        import numpy as np

        from keras_hybrid.training.run.run_folder import load_run

        first, second = load_run(whole), load_run(cut)
        same = all(
            np.array_equal(one, other)
            for one, other in zip(
                first.model.get_weights(), second.model.get_weights(), strict=True
            )
        )
        scores = [run.history[-1]["val_loss"] for run in (first, second)]
    print(
        f"{keras.backend.backend()}: {number + 1} processes ended, weights "
        f"{'the same bit by bit' if same else 'DIFFERENT'}, last losses {scores}"
    )
    return 0 if same else 1


if __name__ == "__main__":
    app.run(main)
