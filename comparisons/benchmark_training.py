"""Training speed: a network of this library against the PyTorch of `transformers`' MobileViT.

    python comparisons/benchmark_training.py
    python comparisons/benchmark_training.py --batch_size=16 --resolution=256 --threads=2 --blocks=9

Both sides train MobileViT-XXS from their own random weights on the same random images, in float32,
with cross-entropy (label smoothing 0.1) and AdamW, by the step that their users run: `model.fit`
with a recipe, and a plain loop. Each lives in a process of its own and works only while the others
wait; blocks of steps alternate, so that a drift of the machine falls on all alike. PyTorch runs
twice, in its own layout and in channels_last; the faster is what the ratio is taken of.

Prints images/s of each side (median, slowest and fastest block) and the ratio. Exit status 1 where
the ratio is below --bar.
"""

import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 16, "Images of a step.", lower_bound=1)
flags.DEFINE_integer("resolution", 256, "Height and width of the images.", lower_bound=64)
flags.DEFINE_integer("threads", 2, "Threads of each side.", lower_bound=1)
flags.DEFINE_integer("blocks", 9, "Blocks of steps of each side.", lower_bound=1)
flags.DEFINE_integer("steps", 4, "Steps of a block.", lower_bound=1)
flags.DEFINE_integer("warmup", 3, "Steps before the first block.", lower_bound=1)
flags.DEFINE_bool("jit_compile", None, "XLA for Keras; Keras' own choice if not set.")
flags.DEFINE_float("bar", 0.0, "Least ratio to PyTorch; below, the exit status is 1.")
flags.DEFINE_enum(
    "worker", None, ["keras", "torch", "torch channels_last"], "Serve one side on stdin, stdout."
)

NUM_CLASSES = 1000
LABEL_SMOOTHING = 0.1
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01


def random_batch():
    """Images (batch, H, W, 3) and labels (batch,), the same on both sides."""
    import numpy as np

    random = np.random.default_rng(0)
    size = FLAGS.resolution
    images = random.random((FLAGS.batch_size, size, size, 3), dtype="float32")
    return images, random.integers(NUM_CLASSES, size=FLAGS.batch_size)


def keras_steps():
    """A function that trains for some steps and returns the seconds that they took."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    from keras_hybrid.training.recipe.recipe import Recipe
    from keras_hybrid.training.run.run import compile_for_training, new_network, training_view
    from keras_hybrid.training.run.startup import prepare_process

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    prepare_process()
    recipe = Recipe(
        model="MobileViTXXS",
        epochs=1,
        batch_size=FLAGS.batch_size,
        resolution=FLAGS.resolution,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        label_smoothing=LABEL_SMOOTHING,
        jit_compile=FLAGS.jit_compile,
    )
    view, _ = training_view(new_network(recipe, NUM_CLASSES), recipe)
    compile_for_training(view, recipe, steps=1000)
    images, labels = random_batch()
    batch = tf.constant(images), tf.one_hot(labels, NUM_CLASSES)
    dataset = tf.data.Dataset.from_tensors(batch).cache().repeat()

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, index, logs=None):
            if index == 0:
                self.start = time.perf_counter()

        def on_train_batch_end(self, index, logs=None):
            self.seconds = time.perf_counter() - self.start

    def run(steps):
        clock = Clock()
        view.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[clock])
        return clock.seconds

    return run


def torch_steps(channels_last):
    """The same for PyTorch."""
    import torch
    from transformers import MobileViTConfig, MobileViTForImageClassification

    torch.set_num_threads(FLAGS.threads)
    config = MobileViTConfig(  # MobileViT-XXS
        image_size=FLAGS.resolution,
        hidden_sizes=[64, 80, 96],
        neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320],
        expand_ratio=2.0,
        num_labels=NUM_CLASSES,
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = MobileViTForImageClassification(config).train().to(memory_format=layout)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=True
    )
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    images, labels = random_batch()
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    labels = torch.from_numpy(labels)

    def run(steps):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(model(images).logits, labels)
            loss.backward()
            optimizer.step()
            loss.item()  # `model.fit` reads the loss of each step, too
        return time.perf_counter() - start

    return run


def serve(side):
    """Runs blocks as the parent asks: a number of steps a line in, seconds out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    run = keras_steps() if side == "keras" else torch_steps(channels_last="channels" in side)
    for line in sys.stdin:
        print(json.dumps(run(int(line))), file=answers, flush=True)


class Worker:
    """A side in its own process."""

    def __init__(self, side):
        flags_set = [
            f"--{name}={getattr(FLAGS, name)}"
            for name in ("batch_size", "resolution", "threads", "jit_compile")
            if getattr(FLAGS, name) is not None
        ]
        threads = str(FLAGS.threads)
        self.process = subprocess.Popen(
            [sys.executable, __file__, f"--worker={side}", *flags_set],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        self.side = side
        self.speeds = []

    def run(self, steps):
        """Images/s of a block."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"The side '{self.side}' ended with status {self.process.wait()}")
        return steps * FLAGS.batch_size / json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    if FLAGS.worker:
        serve(FLAGS.worker)
        return
    workers = [Worker(side) for side in ("keras", "torch", "torch channels_last")]
    for worker in workers:  # one after the other: tracing, too, would disturb the others
        worker.run(FLAGS.warmup)
    for block in range(FLAGS.blocks):
        order = workers[block % 3 :] + workers[: block % 3]
        for worker in order:
            worker.speeds.append(worker.run(FLAGS.steps))
        if sys.stderr.isatty():
            print(f"\rblock {block + 1}/{FLAGS.blocks}", end="", file=sys.stderr, flush=True)
    for worker in workers:
        worker.close()

    size = FLAGS.resolution
    print(
        f"MobileViT-XXS, float32, batch {FLAGS.batch_size}, {size} px, {FLAGS.threads} threads, "
        f"{FLAGS.blocks} blocks of {FLAGS.steps} steps in turns, images/s:"
    )
    print(f"{'side':<22}{'median':>9}{'slowest':>9}{'fastest':>9}")
    medians = {}
    for worker in workers:
        medians[worker.side] = statistics.median(worker.speeds)
        columns = (medians[worker.side], min(worker.speeds), max(worker.speeds))
        print(f"{worker.side:<22}" + "".join(f"{speed:>9.2f}" for speed in columns))
    ratio = medians["keras"] / max(medians["torch"], medians["torch channels_last"])
    print(f"Keras on TensorFlow over the faster PyTorch: {ratio:.3f}")
    if ratio < FLAGS.bar:
        sys.exit(f"The ratio is below the bar of {FLAGS.bar}")


if __name__ == "__main__":
    app.run(main)
