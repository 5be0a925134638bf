"""Input speed: the training pipeline alone, against what training of the smallest model needs.

    python comparisons/benchmark_input.py
    python comparisons/benchmark_input.py --recipes=imagenet/iformer:T --threads=2 --seconds=20

Writes the digits as JPEG files of 500 x 375 px, the usual size on ImageNet, into class folders in a
temporary place, and reads them as `train.py --data=folder:...` does: decoding, random crop and all
that the recipe asks for, batch by batch, without a network. Training steps of the recipe's network
on images that are there already follow, for as long again.

Prints images/s of both (the pipeline's as the median over seconds) and their ratio: the pipeline
keeps up when it is above 1 on the machine that trains, and has threads to spare when it is far
above. Exit status 1 where a ratio is below --bar.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("recipes", ["imagenet/mobile_former:26M"], "Of recipes/, with their variant.")
flags.DEFINE_integer("threads", 2, "Threads of TensorFlow.", lower_bound=1)
flags.DEFINE_integer("batch_size", 32, "Images of a step.", lower_bound=1)
flags.DEFINE_integer("images", 400, "JPEG files to write.", lower_bound=40)
flags.DEFINE_integer("seconds", 15, "Time to measure each side.", lower_bound=1)
flags.DEFINE_float("bar", 0.0, "Least ratio; below, the exit status is 1.")

RECIPES = Path(__file__).parents[1] / "recipes"
HEIGHT, WIDTH = 375, 500
QUALITY = 90


def write_digits(folder, count):
    """Class folders of JPEG files: enlarged digits, with noise, so that files are of usual size."""
    import numpy as np
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    random = np.random.default_rng(0)
    size = 0
    for index in range(count):
        image = tf.image.resize(digits.images[index, ..., None] * (255 / 16), (HEIGHT, WIDTH))
        image = np.repeat(image, 3, -1) + random.normal(0, 12, (HEIGHT, WIDTH, 3))
        image = np.clip(image, 0, 255).astype("uint8")
        path = Path(folder, str(digits.target[index]), f"{index:05d}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(image, quality=QUALITY).numpy())
        size += path.stat().st_size
    return size / count


def pipeline_speed(source, recipe):
    """Images/s of the training pipeline: the median over seconds."""
    import tensorflow as tf

    from keras_hybrid.training.data.pipeline import training_dataset

    batches = iter(training_dataset(source, recipe))
    for _ in range(3):
        next(batches)
    speeds = []
    end = time.perf_counter() + FLAGS.seconds
    while time.perf_counter() < end:
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < 1:
            images += len(tf.nest.flatten(next(batches)[0])[0])
        speeds.append(images / (time.perf_counter() - start))
    return statistics.median(speeds)


def training_speed(recipe, num_classes):
    """Images/s of training steps on one batch that is in memory."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_hybrid.training.run.run import compile_for_training, new_network, training_view

    view, _ = training_view(new_network(recipe, num_classes), recipe)
    compile_for_training(view, recipe, steps=1000)
    random = np.random.default_rng(0)
    shape = (FLAGS.batch_size, recipe.resolution, recipe.resolution, 3)
    batch = (
        tf.constant(random.random(shape, dtype="float32")),
        tf.one_hot(random.integers(num_classes, size=FLAGS.batch_size), num_classes),
    )
    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, index, logs=None):
            self.start = time.perf_counter()

        def on_train_batch_end(self, index, logs=None):
            seconds.append(time.perf_counter() - self.start)
            self.model.stop_training = sum(seconds[1:]) > FLAGS.seconds and len(seconds) > 3

    endless = tf.data.Dataset.from_tensors(batch).cache().repeat()
    view.fit(endless, steps_per_epoch=10**6, shuffle=False, verbose=0, callbacks=[Clock()])
    return FLAGS.batch_size / statistics.median(seconds[1:])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import dataclasses

    import tensorflow as tf

    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.recipe.recipe import load_recipe
    from keras_hybrid.training.run.startup import prepare_process

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    prepare_process()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        size = write_digits(f"{folder}/images", FLAGS.images)
        print(
            f"{FLAGS.images} JPEG files of {WIDTH} x {HEIGHT} px, {size / 1024:.0f} KiB each; "
            f"{FLAGS.threads} threads, batches of {FLAGS.batch_size}; images/s:"
        )
        print(f"{'recipe':<34}{'pipeline':>10}{'training':>10}{'ratio':>8}")
        source = open_source(f"folder:{folder}/images", folder)
        for name in FLAGS.recipes:
            file, _, variant = name.partition(":")
            published = load_recipe(RECIPES / f"{file}.py", variant or None)
            recipe = dataclasses.replace(
                published,
                batch_size=FLAGS.batch_size,
                epochs=10**6,
                scales=(),
                ema_momentum=None,
                warmup_epochs=0,
                warmup_steps=0,
            )
            pipeline = pipeline_speed(source, recipe)
            training = training_speed(recipe, 1000)
            ratios.append(pipeline / training)
            print(f"{name:<34}{pipeline:>10.1f}{training:>10.1f}{ratios[-1]:>8.2f}", flush=True)
    if min(ratios) < FLAGS.bar:
        sys.exit(f"A ratio is below the bar of {FLAGS.bar}")


if __name__ == "__main__":
    app.run(main)
