"""Post-training int8, ours beside ai-edge-quantizer's, of one float file and the same images.

    python recipes/compare_quantizers.py --run=runs/digits --out=runs/quantizers \\
        --ai_edge_quantizer=peer/bin/python

--run is a folder of recipes/train.py. Its network goes to float32 with our export; that file
through ai-edge-quantizer's static int8 in the Python of --ai_edge_quantizer
(see quantize_peer.py), and the network through both of our profiles, all calibrated with the same
training images. Prints, and keeps in OUT/quantizers.md: accuracy on all test images, latency on
one thread of this machine, in turns, over float and over theirs, size, delegate partitions and
tensors that are left in float. Nothing is trained.
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
flags.DEFINE_string("run", None, "Folder of a finished run of recipes/train.py.", required=True)
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
    from keras_hybrid.training.startup import prepare_process

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
    from keras_hybrid.training.files import write_text
    from keras_hybrid.training.pipeline import evaluation_dataset
    from keras_hybrid.training.run_folder import load_run
    from keras_hybrid.training.sources import open_source

    trained, out = load_run(FLAGS.run), Path(FLAGS.out)
    source = open_source(trained.data, FLAGS.data_dir)
    calibration = np.concatenate(
        [np.asarray(images) for images, _ in evaluation_dataset(source, trained.recipe, "train")]
    )[: FLAGS.images]
    tests = list(evaluation_dataset(source, trained.recipe, source.evaluation_split))
    images = np.concatenate([np.asarray(batch) for batch, _ in tests])
    labels = np.concatenate([np.asarray(label) for _, label in tests]).argmax(-1)

    out.mkdir(parents=True, exist_ok=True)
    files = {"float32": export_tflite(trained.model, out / "float32.tflite")}
    files[THEIRS] = quantize_theirs(files["float32"], calibration, out)
    for profile in ("int8", "int8_cpu"):
        print(f"quantising: {profile}", file=sys.stderr)
        path = out / f"{profile}.tflite"
        files[f"ours {profile}"] = export_tflite(
            trained.model, path, precision=profile, representative_data=calibration
        )
    rows, refused = [], fault(files[THEIRS])
    if refused:  # as happens; ours are still to be measured
        print(f"LiteRT refuses ai-edge-quantizer's file: {refused}", file=sys.stderr)
        del files[THEIRS]
        rows.append(f"| {THEIRS} | LiteRT refuses the file | | | | | | |")
    timings = dict(zip(files, time_interleaved(list(files.values()), FLAGS.rounds), strict=True))
    for name, path in files.items():
        timing = timings[name]
        of_theirs = "" if refused else f"{timing.median_ms / timings[THEIRS].median_ms:.2f}"
        (scores,) = run_tflite(path, images).values()
        found = inspect_tflite(path)
        rows.append(
            f"| {name} | {np.mean(scores.argmax(-1) == labels):.2%} | {timing.median_ms:.3f} "
            f"| {timing.ratio:.2f} | {of_theirs} "
            f"| {found.size_bytes / 1e6:.2f} | {found.partitions} "
            f"| {'all' if name == 'float32' else len(found.float_tensors)} |"
        )
    text = "\n".join(
        [
            f"{trained.recipe.model}, {trained.data}, {images.shape[1]} x {images.shape[2]}, "
            f"{len(images)} test images, {len(calibration)} to calibrate with",
            "",
            "| file | accuracy | ms | of float | of theirs | MB | partitions | float tensors |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )
    write_text(out / "quantizers.md", text + "\n")
    print(text)


def fault(path):
    """Why LiteRT cannot prepare a file, or None."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        Interpreter(model_path=str(path), num_threads=1).allocate_tensors()
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
