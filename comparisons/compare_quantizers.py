"""Post-training int8, ours beside ai-edge-quantizer's, of one float file and the same images.

    python comparisons/compare_quantizers.py --run=runs/digits --out=runs/quantizers \\
        --ai_edge_quantizer=peer/bin/python
    python comparisons/compare_quantizers.py --model=MobileViTXXS --out=runs/quantizers \\
        --ai_edge_quantizer=peer/bin/python

--run is a folder of recipes/train.py. Its network goes to float32 with our export; that file
through ai-edge-quantizer's static int8 in the Python of --ai_edge_quantizer
(see quantize_peer.py), and the network through both of our profiles, for CPUs, all calibrated with
the same training images. Prints, and keeps in OUT/quantizers.md: accuracy on all test images,
latency on one thread of this machine, in turns, over float and over theirs, size, delegate
partitions and tensors that are left in float. Where XNNPACK refuses their file, it runs on LiteRT's
own kernels. Nothing is trained. With --model in its place, a network of that name at its native
size, with random weights and images: all but the accuracy.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

THEIRS = "ai-edge-quantizer int8"
FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run of recipes/train.py.")
flags.DEFINE_string("model", None, "Builder's name, in place of --run.")
flags.mark_flags_as_mutual_exclusive(["run", "model"], required=True)
flags.DEFINE_string("out", None, "Folder for the files and the table.", required=True)
flags.DEFINE_string("ai_edge_quantizer", None, "A Python that has it.", required=True)
flags.DEFINE_integer("images", 200, "How many images to calibrate with.", lower_bound=1)
flags.DEFINE_integer("rounds", 15, "How many turns each file gets.", lower_bound=1)
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    if shutil.which(FLAGS.ai_edge_quantizer) is None:
        sys.exit(
            "compare_quantizers.py: --ai_edge_quantizer must name a Python. "
            f"Received: --ai_edge_quantizer={FLAGS.ai_edge_quantizer}"
        )
    from keras_hybrid.training.run.startup import prepare_process

    prepare_process()
    try:
        run()
    except ValueError as error:
        sys.exit(f"compare_quantizers.py: {error}")


def run():
    import numpy as np

    from keras_hybrid.export.convert import export_tflite
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.interleaved import time_interleaved
    from keras_hybrid.export.verify import run_tflite
    from keras_hybrid.files import write_text

    out = Path(FLAGS.out)
    model, title, calibration, images, labels = trained() if FLAGS.run else untrained()
    out.mkdir(parents=True, exist_ok=True)
    files = {"float32": export_tflite(model, out / "float32.tflite")}
    files[THEIRS] = quantize_theirs(files["float32"], calibration, out)
    for profile in ("int8", "int8_cpu"):
        print(f"quantising: {profile}", file=sys.stderr)
        path = out / f"{profile}.tflite"
        files[f"ours {profile}"] = export_tflite(
            model, path, profile, target="cpu", representative_data=calibration
        )
    rows, plain = [], []
    refused = fault(files[THEIRS])  # as happens; ours are still to be measured
    if refused:
        print(f"LiteRT with XNNPACK refuses ai-edge-quantizer's file: {refused}", file=sys.stderr)
        if fault(files[THEIRS], xnnpack=False):
            del files[THEIRS]
            rows.append(f"| {THEIRS} | LiteRT refuses the file | | | | | | |")
        else:
            plain.append(files[THEIRS])
    timings = time_interleaved(list(files.values()), FLAGS.rounds, without_delegate=plain)
    timings = dict(zip(files, timings, strict=True))
    for name, path in files.items():
        timing, of_theirs, accuracy = timings[name], "", ""
        if THEIRS in timings:
            of_theirs = f"{timing.median_ms / timings[THEIRS].median_ms:.2f}"
        if labels is not None:
            (scores,) = run_tflite(path, images, xnnpack=path not in plain).values()
            accuracy = f"{np.mean(scores.argmax(-1) == labels):.2%}"
        if path in plain:
            partitions, floats = "XNNPACK refuses it", ""
        else:
            found = inspect_tflite(path)
            partitions = found.partitions
            floats = "all" if name == "float32" else len(found.float_tensors)
        rows.append(
            f"| {name} | {accuracy} | {timing.median_ms:.3f} | {timing.ratio:.2f} | {of_theirs} "
            f"| {path.stat().st_size / 1e6:.2f} | {partitions} | {floats} |"
        )
    text = "\n".join(
        [
            f"{title}, {calibration.shape[1]} x {calibration.shape[2]}, "
            f"{len(calibration)} images to calibrate with",
            "",
            "| file | accuracy | ms | of float | of theirs | MB | partitions | float tensors |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )
    write_text(out / "quantizers.md", text + "\n")
    print(text)


def trained():
    """The run's network, a title, images to calibrate with, images to test with and labels."""
    import numpy as np

    from keras_hybrid.training.data.pipeline import evaluation_dataset
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.run.run_folder import load_run

    run = load_run(FLAGS.run)
    source = open_source(run.data, FLAGS.data_dir)
    calibration = np.concatenate(
        [np.asarray(images) for images, _ in evaluation_dataset(source, run.recipe, "train")]
    )[: FLAGS.images]
    tests = list(evaluation_dataset(source, run.recipe, source.evaluation_split))
    images = np.concatenate([np.asarray(batch) for batch, _ in tests])
    labels = np.concatenate([np.asarray(label) for _, label in tests]).argmax(-1)
    title = f"{run.recipe.model}, {run.data}, {len(images)} test images"
    return run.model, title, calibration, images, labels


def untrained():
    """The same of a network with random weights: no images to test with."""
    import numpy as np

    import keras_hybrid
    from keras_hybrid.export.random_weights import randomize_norms

    model = keras_hybrid.build_model(FLAGS.model, weights=None)
    randomize_norms(model)
    shape = (FLAGS.images, *model.input_shape[1:])
    calibration = np.random.default_rng(0).normal(size=shape).astype("float32")
    return model, f"{FLAGS.model}, random weights", calibration, None, None


def fault(path, xnnpack=True):
    """Why LiteRT cannot prepare a file, or None."""
    from keras_hybrid.litert import open_interpreter

    try:
        open_interpreter(path, xnnpack=xnnpack).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        return error
    return None


def quantize_theirs(float_file, images, out):
    """The path of the float file after ai-edge-quantizer."""
    import numpy as np

    print("quantising: ai-edge-quantizer", file=sys.stderr)
    program, path = Path(__file__).with_name("quantize_peer.py"), out / "ai_edge_quantizer.tflite"
    path.unlink(missing_ok=True)
    np.save(out / "calibration.npy", images)
    done = subprocess.run(
        [FLAGS.ai_edge_quantizer, program, float_file, out / "calibration.npy", path],
        capture_output=True,
        text=True,
    )
    if done.returncode or not path.is_file():
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ValueError(f"ai-edge-quantizer did not quantise {float_file}: {lines[-1]}")
    return path


if __name__ == "__main__":
    app.run(main)
