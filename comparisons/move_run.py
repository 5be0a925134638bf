"""A run that moves from machine to machine, beside one that stays: how well do both end?

    python comparisons/move_run.py --out=runs/moved
    python comparisons/move_run.py --out=runs/moved --variant=MobileViTXXS --epochs=9

The digits as a folder of images, with the recipe `digits`. One run goes through on one device. The
other is told to end (SIGTERM) inside an epoch, three times: it starts on one device on TensorFlow,
goes on on two mirrored devices, then on JAX in two processes with accumulation over four batches
and with its images in another folder, and ends on TensorFlow again in half precision. Prints what
each start says has changed, and both accuracies on the test images. Takes some ten minutes on two
cores.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("out", None, "Folder for images and runs.", required=True)
flags.DEFINE_string("variant", "MobileFormer26M", "Which network.")
flags.DEFINE_integer("epochs", 8, "Of each run.", lower_bound=4)

ROOT = Path(__file__).resolve().parents[1]
STOPPED = 3  # the status of a run that was told to end


def write_digits(folder):
    """The digits' splits as PNG files in class folders."""
    import tensorflow as tf

    from keras_hybrid.training.data.sources import open_source

    source = open_source("digits", str(folder.parent / "tfds"))
    for split in ("train", "test"):
        for place, example in enumerate(source.split(split).as_numpy_iterator()):
            path = folder / split / source.class_names[example["label"]] / f"{place:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(tf.io.decode_image(example["image"])).numpy())


def start(folder, data, *arguments, backend="tensorflow", processes=1):
    """Processes of `recipes/train.py`; the first writes, and its messages can be read."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [
        sys.executable,
        str(ROOT / "recipes" / "train.py"),
        "--recipe=digits",
        f"--variant={FLAGS.variant}",
        f"--data=folder:{data}",
        f"--data_dir={Path(FLAGS.out) / 'checks'}",
        f"--out={folder}",
        f"epochs={FLAGS.epochs}",
        *arguments,
    ]
    places = [[]]
    if processes > 1:
        flags_of_all = [f"--coordinator={coordinator}", f"--num_processes={processes}"]
        places = [[*flags_of_all, f"--process_id={number}"] for number in range(processes)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [*command[:2], *place, *command[2:]],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for place in places
    ]


def finish(processes):
    """Waits; prints what the first said of changes, and what it saved."""
    outputs = [process.communicate() for process in processes]
    for line in outputs[0][1].splitlines():
        if line.startswith(("resuming", "goes on", "train.py:", "saved")):
            print("  ", line.split(" Again:")[0], flush=True)
    statuses = {process.returncode for process in processes}
    if not statuses <= {0, STOPPED}:
        sys.exit(f"ended with {statuses}: {outputs[0][1][-2000:]}")
    return outputs[0][0]


def stop_after(folder, processes, epochs):
    """Tells the last of the processes to end a while after so many epochs."""
    history = folder / "history.csv"
    while all(process.poll() is None for process in processes):
        time.sleep(0.2)
        if history.exists() and len(history.read_text().splitlines()) > epochs:
            time.sleep(1)
            processes[-1].send_signal(signal.SIGTERM)
            return


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    sys.path.insert(0, str(ROOT))
    out = Path(FLAGS.out).resolve()
    here, there, moved = out / "images", out / "elsewhere", out / "run"
    for folder in (there, moved, out / "straight"):
        shutil.rmtree(folder, ignore_errors=True)
    if not here.exists():
        write_digits(here)
    shutil.copytree(here, there)
    print("one run, straight through:", flush=True)
    straight = finish(start(out / "straight", here))
    stages = [
        ("one device, TensorFlow", here, (), {}),
        ("two mirrored devices", here, ("--distribute=mirrored", "--devices=2"), {}),
        (
            "two processes on JAX, accumulation, another folder",
            there,
            ("--distribute=data_parallel", "--devices=1", "accumulation_steps=4"),
            {"backend": "jax", "processes": 2},
        ),
        ("one device, TensorFlow, half precision", there, ("precision=mixed_bfloat16",), {}),
    ]
    printed = ""
    for number, (title, data, arguments, options) in enumerate(stages):
        print(f"{title}:", flush=True)
        processes = start(moved, data, *arguments, **options)
        if number < len(stages) - 1:
            stop_after(moved, processes, FLAGS.epochs * (number + 1) // len(stages))
        printed = finish(processes) or printed
    print(f"straight: {straight.strip()}\nmoved:    {printed.strip()}")


if __name__ == "__main__":
    app.run(main)
