r"""What it costs to make an int8 file of a float model: time and peak memory, network by network.

    python comparisons/export_cost.py
    python comparisons/export_cost.py --models=MobileViTS --ai_edge_quantizer=peer/bin/python

For each network at its native size, in a process of its own: `quantize`, `calibrate` on fixed
images and `export_tflite`, from a model that is built. With a Python that has ai-edge-quantizer
(`python3 -m venv peer; peer/bin/pip install ai-edge-quantizer`), its static int8 of the float file
of the same network, calibrated with the same images, in a process of its own, right after. Seconds
on the clock depend on what else runs, processor seconds less; the peak is the largest resident set
of the process, imports included. Exit status 1 where one fails.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_MODELS = flags.DEFINE_list("models", ["MobileFormer294M", "MobileViTS"], "Which networks.")
_IMAGES = flags.DEFINE_integer("images", 50, "How many images to calibrate with.", lower_bound=1)
_PEER = flags.DEFINE_string("ai_edge_quantizer", None, "A Python with ai-edge-quantizer.")
_MEASURE = flags.DEFINE_string("measure", None, "Make the files of one network in this folder.")

PEER_PROGRAM = "quantize_peer.py"


def main(argv):
    if len(argv) > 1:
        print(f"There are no arguments beside flags. Received: {argv[1:]}", file=sys.stderr)
        return 2
    if _MEASURE.value:
        make_int8(_MODELS.value[0], _IMAGES.value, Path(_MEASURE.value))
        return 0
    print("| network | by | seconds | processor seconds | peak GiB |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in _MODELS.value:
        with tempfile.TemporaryDirectory() as folder:
            rows = [("keras_hybrid", ours(name, folder))]
            if _PEER.value:
                rows.append(("ai-edge-quantizer", theirs(folder)))
        for by, row in rows:
            if row is None:
                print(f"{by} failed on {name}", file=sys.stderr)
                return 1
            seconds, processor, peak = row
            print(f"| {name} | {by} | {seconds:.1f} | {processor:.1f} | {peak:.2f} |", flush=True)
    return 0


def ours(name, folder):
    """Time from the built model to the file, and the peak of the process."""
    program = [sys.executable, __file__, f"--models={name}", f"--images={_IMAGES.value}"]
    if _PEER.value:
        program.append(f"--ai_edge_quantizer={_PEER.value}")
    done = run([*program, f"--measure={folder}"])
    if done is None:
        return None
    made = json.loads((Path(folder) / "cost.json").read_text())
    return made["seconds"], made["processor_seconds"], done[2]


def theirs(folder):
    """Time and peak of the whole process, imports included."""
    root = Path(__file__).resolve().parent.parent
    program = next(root.glob(f"*/{PEER_PROGRAM}"))
    files = [str(Path(folder) / name) for name in ("float.tflite", "images.npy", "theirs.tflite")]
    return run([_PEER.value, str(program), *files])


def run(command):
    """(seconds, processor seconds, peak in GiB) of a process; None where it failed."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        return None
    seconds = time.monotonic() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def make_int8(name, count, folder):
    """The int8 file of a network, what it cost, and what the other side needs."""
    import numpy as np

    import keras_hybrid
    from keras_hybrid.export.random_weights import randomize_norms

    model = keras_hybrid.build_model(name, weights=None)
    randomize_norms(model)
    random = np.random.default_rng(0)
    images = random.normal(size=(count, *model.input_shape[1:])).astype("float32")
    np.save(folder / "images.npy", images)
    start, processor = time.monotonic(), time.process_time()
    keras_hybrid.export_tflite(
        model, folder / "ours.tflite", precision="int8", representative_data=images
    )
    cost = {
        "seconds": time.monotonic() - start,
        "processor_seconds": time.process_time() - processor,
    }
    (folder / "cost.json").write_text(json.dumps(cost))
    if _PEER.value:
        keras_hybrid.export_tflite(model, folder / "float.tflite")


if __name__ == "__main__":
    app.run(main)
