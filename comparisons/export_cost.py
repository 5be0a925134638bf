r"""What it costs to make an int8 file of a float model: time and peak memory, network by network.

    python comparisons/export_cost.py
    python comparisons/export_cost.py --models=MobileViTS --ai_edge_quantizer=peer/bin/python

For each network at its native size, in a process of its own: `quantize`, `calibrate` on fixed
images and `export_tflite`, from a model that is built, with the processor seconds of each and the
peak until its end. With a Python that has ai-edge-quantizer
(`python3 -m venv peer; peer/bin/pip install ai-edge-quantizer`), its static int8 of the float file
of the same network, calibrated with the same images, in a process of its own, right after. Seconds
on the clock depend on what else runs, processor seconds less: with the other quantizer comes their
ratio. The peak is the largest resident set of the process, imports included. Exit status 1 where
one fails.
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
    print("| network | by | seconds | processor seconds | peak GiB | quantize, calibrate, export |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in _MODELS.value:
        with tempfile.TemporaryDirectory() as folder:
            rows = [("keras_hybrid", ours(name, folder))]
            if _PEER.value:
                rows.append(("ai-edge-quantizer", theirs(folder)))
        for by, row in rows:
            if row is None:
                print(f"{by} failed on {name}", file=sys.stderr)
                return 1
            seconds, processor, peak, phases = row
            print(
                f"| {name} | {by} | {seconds:.1f} | {processor:.1f} | {peak:.2f} | {phases} |",
                flush=True,
            )
        if len(rows) > 1:
            ratio = rows[0][1][1] / rows[1][1][1]
            print(f"{name}: {ratio:.2f} of the other's processor seconds", file=sys.stderr)
    return 0


def ours(name, folder):
    """Time from the built model to the file, and the peak of the process."""
    program = [sys.executable, __file__, f"--models={name}", f"--images={_IMAGES.value}"]
    if _PEER.value:
        program.append(f"--ai_edge_quantizer={_PEER.value}")
    if run([*program, f"--measure={folder}"]) is None:
        return None
    return json.loads((Path(folder) / "cost.json").read_text())


def theirs(folder):
    """Time and peak of the whole process, imports included."""
    root = Path(__file__).resolve().parent.parent
    program = next(root.glob(f"*/{PEER_PROGRAM}"))
    files = [str(Path(folder) / name) for name in ("float.tflite", "images.npy", "theirs.tflite")]
    done = run([_PEER.value, str(program), *files])
    return None if done is None else (*done, "")


def run(command):
    """(seconds, processor seconds, peak in GiB) of a process; None where it failed.

    The peak that is counted starts with this process' own, which is small.
    """
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
    from keras_hybrid.workflows.memory import peak_memory

    model = keras_hybrid.build_model(name, weights=None)
    randomize_norms(model)
    random = np.random.default_rng(0)
    images = random.normal(size=(count, *model.input_shape[1:])).astype("float32")
    np.save(folder / "images.npy", images)
    start, processor, peaks = time.monotonic(), [time.process_time()], []

    def phase_ends():
        processor.append(time.process_time())
        peaks.append(peak_memory() / 2**30)

    quantized = keras_hybrid.quantize(model, target="cpu")
    phase_ends()
    keras_hybrid.calibrate(quantized, images)
    phase_ends()
    keras_hybrid.export_tflite(quantized, folder / "ours.tflite", precision="int8")
    phase_ends()
    phases = [f"{x:.1f} s to {peak:.2f}" for x, peak in zip(np.diff(processor), peaks, strict=True)]
    total = processor[-1] - processor[0]
    cost = (time.monotonic() - start, total, peaks[-1], ", ".join(phases))
    (folder / "cost.json").write_text(json.dumps(cost))
    if _PEER.value:
        keras_hybrid.export_tflite(model, folder / "float.tflite")


if __name__ == "__main__":
    app.run(main)
