"""Training speed on a GPU: networks of this library on JAX and TensorFlow beside timm's PyTorch.

    python comparisons/benchmark_gpu.py --models=MobileViTXXS,MobileViTS,MobileFormer294M,IFormerM
    python comparisons/benchmark_gpu.py --batch_size=64 --blocks=3 --steps=10

Each side lives in a process of its own and works only while the others wait; blocks of steps
alternate. Images travel as 8-bit integers, are normalised on the device (a run here sends float32),
and the network trains with cross-entropy (label smoothing 0.1) and AdamW, in float32 (with
the device's TensorFloat-32 where it has it, on all sides) or bfloat16 (`mixed_bfloat16`,
autocast). PyTorch runs in channels_last, as it is and compiled.
timm has MobileViT alone; the other networks stand beside nothing.

`in step` is the share of the wall-clock time that a side needs with the batch on the device
already: 1 where the device never waits for images. What is not installed is left out, and said.
On JAX, XLA's search for the fastest kernels is off (`--autotune` puts it on): with it, the step of
MobileViT-XXS was not compiled within seven minutes on an H200.
Without a GPU the program says so and exits with status 3.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "models", ["MobileViTXXS", "MobileViTS", "MobileFormer294M", "IFormerM"], "Builders' names."
)
flags.DEFINE_integer("batch_size", 128, "Images of a step.", lower_bound=1)
flags.DEFINE_integer("blocks", 5, "Blocks of steps of each side.", lower_bound=1)
flags.DEFINE_integer("steps", 20, "Steps of a block.", lower_bound=2)
flags.DEFINE_list("precisions", ["float32", "bfloat16"], "float32, bfloat16.")
flags.DEFINE_bool("autotune", False, "Let XLA search for the fastest kernels on JAX.")
flags.DEFINE_bool("any_device", False, "Run without a GPU, too, to try the program.")
flags.DEFINE_string("worker", None, "Serve one side, MODEL/KIND/PRECISION, on stdin and stdout.")

NUM_CLASSES = 1000
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
KINDS = {  # what a side needs
    "jax": ("keras", "jax"),
    "tensorflow": ("keras", "tensorflow"),
    "timm": ("timm", "torch"),
    "timm compiled": ("timm", "torch"),
}
TIMM = {"MobileViTXXS": "mobilevit_xxs", "MobileViTXS": "mobilevit_xs", "MobileViTS": "mobilevit_s"}


def random_batches(size, count=4):
    """Images (batch, size, size, 3) of 8 bits and labels (batch,), the same on all sides."""
    import numpy as np

    random = np.random.default_rng(0)
    shape = (FLAGS.batch_size, size, size, 3)
    return [
        (
            random.integers(256, size=shape, dtype="uint8"),
            random.integers(NUM_CLASSES, size=FLAGS.batch_size).astype("int32"),
        )
        for _ in range(count)
    ]


def native_size(name):
    return 256 if name.startswith("MobileViT") else 224


def keras_steps(name, backend, precision):
    """A function that trains for some steps through `fit`, and one with the batch on the device."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import keras

    import keras_hybrid

    if backend == "jax":
        import jax

        if precision == "float32":
            jax.config.update("jax_default_matmul_precision", "tensorfloat32")
    keras.mixed_precision.set_dtype_policy(
        "mixed_bfloat16" if precision == "bfloat16" else "float32"
    )
    size = native_size(name)
    network = keras_hybrid.build_model(name, weights=None, classes=NUM_CLASSES)
    image = keras.Input((size, size, 3), dtype="uint8")
    scores = network(keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image))
    model = keras.Model(image, keras.layers.Activation("linear", dtype="float32")(scores))
    model.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        jit_compile=True,
    )
    batches = [
        (images, keras.utils.to_categorical(labels, NUM_CLASSES))
        for images, labels in random_batches(size)
    ]

    class Batches(keras.utils.PyDataset):
        def __init__(self, steps):
            super().__init__()
            self.steps = steps

        def __len__(self):
            return self.steps

        def __getitem__(self, index):
            return batches[index % len(batches)]

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, index, logs=None):
            if index == 0:
                self.start = time.perf_counter()

    def fit(steps):
        clock = Clock()
        history = model.fit(Batches(steps + 1), verbose=0, callbacks=[clock])
        float(history.history["loss"][-1])
        return time.perf_counter() - clock.start

    def on_device(steps):
        batch = tuple(keras.ops.convert_to_tensor(array) for array in batches[0])
        if backend == "tensorflow":
            model.train_on_batch(*batch)
            start = time.perf_counter()
            for _ in range(steps):
                loss = model.train_function(iter([batch]))
            float(loss["loss"])
            return time.perf_counter() - start
        import jax

        model.train_on_batch(*batch)  # builds the state
        state = (
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
            [variable.value for variable in model.optimizer.variables],
            [variable.value for variable in model.metrics_variables],
        )
        state = jax.tree_util.tree_map(lambda value: value.copy(), state)  # the step donates it
        step = jax.jit(model.train_step, donate_argnums=0)
        _, state = step(state, batch)
        jax.block_until_ready(state)
        start = time.perf_counter()
        for _ in range(steps):
            _, state = step(state, batch)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    return fit, on_device


def timm_steps(name, compiled, precision):
    """The same for timm's network."""
    import contextlib

    import timm
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    model = timm.create_model(TIMM[name], num_classes=NUM_CLASSES).train().to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=True
    )
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    network = torch.compile(model) if compiled else model
    batches = []
    for images, labels in random_batches(native_size(name)):
        pair = torch.from_numpy(images), torch.from_numpy(labels).long()
        batches.append(
            [tensor.pin_memory() if device.type == "cuda" else tensor for tensor in pair]
        )
    cast = (
        (lambda: torch.autocast(device.type, torch.bfloat16))
        if precision == "bfloat16"
        else contextlib.nullcontext
    )

    def step(images, labels):
        images = images.to(device, non_blocking=True).permute(0, 3, 1, 2)  # channels_last already
        labels = labels.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with cast():
            scores = network(images.float() / 127.5 - 1)
            loss = loss_function(scores, labels)
        loss.backward()
        optimizer.step()
        return loss

    def run(pairs):
        step(*pairs[0]).item()
        start = time.perf_counter()
        for pair in pairs:
            loss = step(*pair)
        loss.item()
        return time.perf_counter() - start

    def fit(steps):
        return run([batches[index % len(batches)] for index in range(steps)])

    def on_device(steps):
        return run([[tensor.to(device) for tensor in batches[0]]] * steps)

    return fit, on_device


def serve(side):
    """Runs blocks as the parent asks: "fit N" or "device N" a line in, seconds out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    name, kind, precision = side.split("/")
    if kind.startswith("timm"):
        fit, on_device = timm_steps(name, "compiled" in kind, precision)
    else:
        fit, on_device = keras_steps(name, kind, precision)
    for line in sys.stdin:
        what, steps = line.split()
        seconds = {"fit": fit, "device": on_device}[what](int(steps))
        print(json.dumps(seconds), file=answers, flush=True)


class Worker:
    """A side in its own process."""

    def __init__(self, name, kind, precision):
        self.name, self.kind, self.precision = name, kind, precision
        self.command = [
            sys.executable,
            __file__,
            f"--worker={name}/{kind}/{precision}",
            f"--batch_size={FLAGS.batch_size}",
        ]
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        xla = os.environ.get("XLA_FLAGS", "")
        if kind == "jax" and not FLAGS.autotune:
            xla = f"{xla} --xla_gpu_autotune_level=0".strip()
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "XLA_FLAGS": xla},
        )
        self.speeds, self.device_speeds, self.failed = [], [], False

    def run(self, what, steps):
        """Images/s of a block, or None where the side has ended."""
        if self.failed:
            return None
        try:
            self.process.stdin.write(f"{what} {steps}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.failed = True
            print(f"{self.kind}, {self.precision}: ended with status {self.process.wait()}")
            return None
        return steps * FLAGS.batch_size / json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def installed(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


def gpu_name():
    """What the machine calls its first GPU, or None where it has none."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 else None


def measure(name):
    """Prints the table of one network."""
    workers = [
        Worker(name, kind, precision)
        for kind, needs in KINDS.items()
        if installed(*needs) and (name in TIMM or "timm" not in kind)
        for precision in FLAGS.precisions
    ]
    for worker in workers:  # one after the other: compiling, too, would disturb the others
        start = time.perf_counter()
        worker.run("fit", 2)
        worker.compile_seconds = time.perf_counter() - start
    for block in range(FLAGS.blocks):
        start = block % len(workers)
        for worker in workers[start:] + workers[:start]:
            for what, speeds in (("fit", worker.speeds), ("device", worker.device_speeds)):
                speed = worker.run(what, FLAGS.steps)
                if speed:
                    speeds.append(speed)
        print(f"{name}: block {block + 1}/{FLAGS.blocks}", file=sys.stderr, flush=True)
    for worker in workers:
        worker.close()
    size = native_size(name)
    print(f"\n{name}, {size} px, batch {FLAGS.batch_size}, images/s:")
    print(
        f"{'side':<16}{'precision':<11}{'median':>9}{'slowest':>9}{'fastest':>9}{'in step':>9}"
        f"{'start, s':>10}"
    )
    for worker in workers:
        if worker.speeds and worker.device_speeds:
            median = statistics.median(worker.speeds)
            share = min(1.0, median / statistics.median(worker.device_speeds))
            print(
                f"{worker.kind:<16}{worker.precision:<11}{median:>9.0f}{min(worker.speeds):>9.0f}"
                f"{max(worker.speeds):>9.0f}{share:>9.2f}{worker.compile_seconds:>10.0f}",
                flush=True,
            )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    unknown = set(FLAGS.precisions) - {"float32", "bfloat16"}
    if unknown:
        raise app.UsageError(f"unknown precisions: {sorted(unknown)}")
    if FLAGS.worker:
        serve(FLAGS.worker)
        return 0
    gpu = gpu_name()
    if gpu is None and not FLAGS.any_device:
        print("There is no NVIDIA GPU here: nothing is measured.")
        return 3
    print(f"device: {gpu or 'none'}")
    for kind, needs in KINDS.items():
        if not installed(*needs):
            print(f"{kind}: left out, for want of {' or '.join(needs)}")
    for name in FLAGS.models:
        measure(name)
    return 0


if __name__ == "__main__":
    app.run(main)
