"""Segmentation systems at 512 x 512 px: speed beside the peer's file, and which engines take them.

    python comparisons/benchmark_segmentation.py --litert_torch=peer/bin/python
    python comparisons/benchmark_segmentation.py --vela=vela/bin/vela --precisions=float32,int8

Random weights. Prints for each system and precision: operators, memory, delegate partitions and
what is outside of them, what a GPU delegate's lists refuse, the share of operators that an
Ethos-U85 takes of an int8 file for NPUs (--vela), and the CPU time on one thread, all files in
turns: in milliseconds, and in times of the first. `efficiency` is the network's multiply-adds per
second over those of its convolutions and dense layers alone. --litert_torch names a Python with
litert-torch and transformers, which exports `MobileViTForSemanticSegmentation` (see
export_peer.py); `of peer` is our time over its.

Measured on one x86 core with AVX-512, beside transformers 5.24 through litert-torch 0.10:
DeepLabV3MobileViTXXS takes 0.81 and 0.84 of its time in two runs, and 60 of its 103 MiB. Most of it
is in kernels of XNNPACK that both files call alike: attention's products (those with the values are
16 wide, and fill half of the tiles), dense layers, convolutions, softmax. What ours has less of are
scaling, transposes, layer norms of more operators and products with padding; and its attention goes
head by head, which fits a core's caches: in `int8_cpu`, 0.77 of its own time without.
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_list("models", ["DeepLabV3MobileViTXXS", "SemanticFPNIFormerM"], "Systems' names.")
flags.DEFINE_list("precisions", ["float32"], "Of the files.")
flags.DEFINE_integer("size", 512, "Height and width of the image.", 64)
flags.DEFINE_string("folder", "runs/segmentation", "Where files go.")
flags.DEFINE_bool("reuse", False, "Take files that are in the folder already.")
flags.DEFINE_string("litert_torch", None, "A Python with litert-torch, to export the peer with.")
flags.DEFINE_string("vela", None, "Arm's compiler, to compile int8 files for an Ethos-U85 with.")
flags.DEFINE_integer("rounds", 15, "How many turns each file gets; 0 to time none.", 0)
flags.DEFINE_float("seconds", 0.5, "Least length of a turn.", 0.001)
NPU = "ethos-u85-256"


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    folder = Path(FLAGS.folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for name in FLAGS.models for row in export(name, folder)]
    for row in rows:
        print(describe(row), flush=True)
    if FLAGS.rounds:
        time_all(rows)


def export(name, folder):
    """Files of a system: {"name", "path"}, in float with its bare graph, and the peer's."""
    import keras
    import numpy as np

    import keras_hybrid
    from keras_hybrid.export.bare_graph import export_bare_graph
    from keras_hybrid.export.random_weights import randomize_norms

    size = FLAGS.size
    model = getattr(keras_hybrid, name)(input_shape=(size, size, 3))
    randomize_norms(model)
    rows = []
    kinds = [(precision, None) for precision in FLAGS.precisions]
    if FLAGS.vela and "int8" in FLAGS.precisions:
        kinds.append(("int8", "npu"))
    for precision, target in kinds:
        path = folder / f"{name}_{size}_{precision}{f'_{target}' if target else ''}.tflite"
        if not (FLAGS.reuse and path.is_file()):
            noise = np.random.default_rng(0).uniform(size=(2, size, size, 3)).astype("float32")
            integers = precision.startswith("int8")
            keras_hybrid.export_tflite(
                model,
                path,
                precision,
                target=target,
                representative_data=noise if integers else None,
            )
        row = {"name": f"{name} {precision}{' for NPUs' if target else ''}", "path": path}
        row |= {"precision": precision, "target": target}
        if precision == "float32":
            row["bare"] = folder / f"{name}_{size}_bare.tflite"
            row["multiply_adds"] = keras_hybrid.count_multiply_adds(model)
            row["bare_multiply_adds"] = export_bare_graph(model, row["bare"])
        rows.append(row)
    keras.backend.clear_session()
    if FLAGS.litert_torch and "MobileViT" in name:
        path = folder / f"{name}_litert_torch.tflite"
        if not (FLAGS.reuse and path.is_file()):
            program = Path(__file__).with_name("export_peer.py")
            subprocess.run([FLAGS.litert_torch, program, name, path], check=True)
        rows.append({"name": f"{name} of litert-torch", "path": path, "peer_of": rows[0]["path"]})
    return rows


def describe(row):
    """A file in words."""
    from keras_hybrid.export.engines import check_gpu_delegate
    from keras_hybrid.export.inspect import inspect_tflite

    found, gpu = inspect_tflite(row["path"]), check_gpu_delegate(row["path"])
    left = ", ".join(f"{count} {op}" for op, count in found.undelegated.items()) or "none"
    refused = ", ".join(f"{count} {op}" for op, count in gpu.unsupported_ops.items()) or "none"
    text = (
        f"{row['name']}: {found.num_ops} operators, {found.size_bytes / 1e6:.1f} MB, "
        f"{peak_memory(row['path'])} to run\n"
        f"  XNNPACK: {found.partitions} partitions; outside: {left}\n"
        f"  GPU's lists: refused operators: {refused}; "
        f"refused shapes: {len(gpu.unsupported_shapes)} activations"
    )
    if FLAGS.vela and row.get("target") == "npu":
        text += f"\n  {NPU}: {compile_for_npu(row['path'])}"
    return text


def peak_memory(path):
    """What an interpreter adds to a process' peak until it has run the file, on one thread."""
    program = (
        "import re, sys\n"
        "import numpy as np\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "def peak():\n"
        "    with open('/proc/self/status') as file:\n"
        r"        return int(re.search(r'VmHWM:\s*(\d+) kB', file.read())[1]) / 1024"
        "\n"
        "before = peak()\n"
        "interpreter = Interpreter(sys.argv[1], num_threads=1)\n"
        "interpreter.allocate_tensors()\n"
        "(image,) = interpreter.get_input_details()\n"
        "interpreter.set_tensor(image['index'], np.zeros(image['shape'], image['dtype']))\n"
        "interpreter.invoke()\n"
        "print(f'{peak() - before:.0f} MiB')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def compile_for_npu(path):
    """Cycles and the operators left to the CPU, as Vela's summary and log have them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [FLAGS.vela, path, f"--accelerator-config={NPU}", f"--output-dir={folder}"]
        done = subprocess.run(
            [*command, "--show-cpu-operations"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"refused: {done.stderr.strip().splitlines()[-1]}"
        (summary,) = Path(folder).glob("*_summary_*.csv")
        with summary.open() as file:
            (figures,) = csv.DictReader(file)
    left: dict[str, str] = {}  # the operators left to the CPU, and why
    lines = done.stdout.splitlines()
    for line, reason in zip(lines, lines[1:], strict=False):
        if match := re.search(r"operator: (\w+), ofm", line):
            left.setdefault(match[1], reason.strip())
    shares = [line.strip() for line in lines if " operators = " in line]
    text = "; ".join([f"{float(figures['cycles_total']) / 1e6:.1f}M cycles", *shares])
    return text + "".join(f"\n    {name}: {reason}" for name, reason in left.items())


def time_all(rows):
    """CPU time of all files in turns."""
    from keras_hybrid.export.interleaved import time_interleaved

    paths = [row["path"] for row in rows] + [row["bare"] for row in rows if "bare" in row]
    timings = dict(zip(paths, time_interleaved(paths, FLAGS.rounds, FLAGS.seconds), strict=True))
    for row in rows:
        timing = timings[row["path"]]
        text = f"{row['name']}: {timing.median_ms:.1f} ms, {timing.ratio:.3f} of the first"
        if "bare" in row:
            speed = row["multiply_adds"] / timing.median_ms
            floor = row["bare_multiply_adds"] / timings[row["bare"]].median_ms
            text += f", efficiency {speed / floor:.2f}"
        for peer in rows:
            if peer.get("peer_of") == row["path"]:
                ratio = timing.ratio / timings[peer["path"]].ratio
                text += f", of peer {ratio:.3f}"
        print(text, flush=True)


if __name__ == "__main__":
    app.run(main)
