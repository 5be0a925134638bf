"""The latency table: this package's files beside MobileNetV3-Large, on one thread of this machine.

    python comparisons/table.py --folder=runs/table
    python comparisons/table.py --folder=runs/table --reuse --compare=runs/table/earlier.json
    python comparisons/table.py --models=MobileViTXXS --litert_torch=peer/bin/python

Exports every model in float32 with random weights, times all files in turns, and prints for each:
operators, delegate partitions, size, median latency, and the latency in times of
`keras.applications.MobileNetV3Large` (median over the turns, and quartiles). `efficiency` is the
network's multiply-adds per second over those of its convolutions and dense layers alone, whose
latency, in the same unit, is `floor`. --litert_torch names a Python with litert-torch, which then
exports `transformers`' MobileViT of the same size (see export_peer.py), and `of peer` is our
latency over its; --against gives ratios measured elsewhere for that, as {"MobileFormer26M": 0.58}.
--also adds files from elsewhere. The rows are stored in FOLDER/table.json; --compare shows the
change since another such file. `tflite/benchmark.py --table` is this program, too.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

BASELINE = "MobileNetV3Large"
FLAGS = flags.FLAGS
flags.DEFINE_list(
    "models",
    ["MobileFormer26M", "MobileFormer294M", "MobileViTXXS", "MobileViTS", "IFormerT", "IFormerM"],
    "Builders' names.",
)
flags.DEFINE_string("folder", "runs/table", "Where files and rows go.")
flags.DEFINE_bool("reuse", False, "Take files that are in the folder already.")
flags.DEFINE_bool("efficiency", True, "Time convolutions and dense layers alone, too.")
flags.DEFINE_string("litert_torch", None, "A Python with litert-torch, to export peers with.")
flags.DEFINE_string("against", None, "JSON of ratios of other exports to the baseline, by model.")
flags.DEFINE_multi_string("also", [], "Another .tflite to time; may be repeated.")
flags.DEFINE_integer("rounds", 15, "How many turns each file gets.")
flags.DEFINE_float("seconds", 0.1, "Least length of a turn.")
flags.DEFINE_string("compare", None, "A table.json of an earlier run.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    try:
        run()
    except ValueError as error:
        sys.exit(f"table.py: {error}")


def run():
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.interleaved import time_interleaved

    earlier = {row["name"]: row for row in read_json("compare", [])}
    elsewhere = read_json("against", {})
    folder = Path(FLAGS.folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [prepare(name, folder) for name in dict.fromkeys([BASELINE, *FLAGS.models])]
    if FLAGS.litert_torch:
        rows += [prepare_peer(row["name"], folder) for row in rows if "MobileViT" in row["name"]]
    rows += [{"name": Path(path).name, "path": path} for path in FLAGS.also]
    paths = [row["path"] for row in rows] + [row["bare"] for row in rows if "bare" in row]
    print(f"timing {len(paths)} files, {FLAGS.rounds} turns each", flush=True)
    timings = dict(zip(paths, time_interleaved(paths, FLAGS.rounds, FLAGS.seconds), strict=True))
    for row in rows:
        found, timing = inspect_tflite(row["path"]), timings[row["path"]]
        row |= {
            "ops": found.num_ops,
            "partitions": found.partitions,
            "megabytes": found.size_bytes / 1e6,
            "ms": timing.median_ms,
            "ratio": timing.ratio,
            "low": timing.low,
            "high": timing.high,
        }
        if "bare" in row:
            speed = row["multiply_adds"] / timing.median_ms
            row["floor"] = timings[row["bare"]].ratio
            row["efficiency"] = speed * timings[row["bare"]].median_ms / row["bare_multiply_adds"]
    peers = {row["peer_of"]: row["ratio"] for row in rows if "peer_of" in row}
    for row in rows:
        theirs = peers.get(row["name"], elsewhere.get(row["name"]))
        if theirs:
            row["of_peer"] = row["ratio"] / theirs
    show(rows, earlier)
    temporary = folder / ".table.json"
    temporary.write_text(json.dumps(rows, indent=1))
    os.replace(temporary, folder / "table.json")


def read_json(flag, default):
    """The content of the file that a flag names."""
    path = FLAGS[flag].value
    if not path:
        return default
    if not Path(path).is_file():
        raise ValueError(f"There is no such file. Received: --{flag}={path}")
    return json.loads(Path(path).read_text())


def prepare_peer(name, folder):
    """A row with the path of litert-torch's export of another implementation of the model."""
    path = folder / f"{name}_litert_torch.tflite"
    if not (FLAGS.reuse and path.is_file()):
        print(f"exporting {name} with litert-torch", flush=True)
        program = Path(__file__).with_name("export_peer.py")
        try:
            done = subprocess.run(
                [FLAGS.litert_torch, program, name, path], capture_output=True, text=True
            )
        except OSError as error:
            raise ValueError(
                f"--litert_torch must name a Python: {error}. "
                f"Received: --litert_torch={FLAGS.litert_torch}"
            ) from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise ValueError(f"litert-torch did not export {name}: {lines[-1]}")
    return {"name": path.stem, "path": str(path), "peer_of": name}


def prepare(name, folder):
    """A row with the paths of a model's files, made where they are missing."""
    import keras

    import keras_hybrid
    from keras_hybrid.export.bare_graph import export_bare_graph
    from keras_hybrid.export.random_weights import randomize_norms

    path, bare = folder / f"{name}.tflite", folder / f"{name}_bare.tflite"
    facts = folder / f"{name}.json"
    wanted = [path, facts] + ([bare] if FLAGS.efficiency and name != BASELINE else [])
    if FLAGS.reuse and all(file.is_file() for file in wanted):
        return json.loads(facts.read_text())
    print(f"exporting {name}", flush=True)
    row = {"name": name, "path": str(path)}
    if name == BASELINE:
        model = keras.applications.MobileNetV3Large(weights=None, input_shape=(224, 224, 3))
        keras_hybrid.export_tflite(model, path, fused=False)  # as Keras gives it
    else:
        model = keras_hybrid.build_model(name, weights=None)
        randomize_norms(model)
        keras_hybrid.export_tflite(model, path)
        if FLAGS.efficiency:
            row["bare"] = str(bare)
            row["bare_multiply_adds"] = export_bare_graph(model, bare)
        row["multiply_adds"] = keras_hybrid.count_multiply_adds(model)
    facts.write_text(json.dumps(row))
    return row


def show(rows, earlier):
    """Prints the table."""
    print(
        f"{'model':24}{'ops':>6}{'parts':>6}{'MB':>8}{'MAdds':>9}{'ms':>9}{'ratio':>8}"
        f"{'quartiles':>16}{'floor':>8}{'efficiency':>12}{'of peer':>9}"
        + (f"{'before':>9}" if earlier else "")
    )
    for row in rows:
        multiply_adds = f"{row['multiply_adds'] / 1e6:.0f}M" if "multiply_adds" in row else ""
        floor, efficiency, of_peer = (
            f"{row[name]:.2f}" if name in row else "" for name in ("floor", "efficiency", "of_peer")
        )
        line = (
            f"{row['name'][:23]:24}{row['ops']:6}{row['partitions']:6}{row['megabytes']:8.2f}"
            f"{multiply_adds:>9}{row['ms']:9.3f}{row['ratio']:8.3f}"
            f"{row['low']:9.3f}-{row['high']:.3f}{floor:>8}{efficiency:>12}{of_peer:>9}"
        )
        if row["name"] in earlier:
            line += f"{row['ratio'] / earlier[row['name']]['ratio']:8.2f}x"
        print(line)
    shares = [row["of_peer"] for row in rows if "of_peer" in row]
    if shares:
        mean = math.exp(sum(map(math.log, shares)) / len(shares))
        print(f"ours over the peer's, geometric mean of {len(shares)}: {mean:.3f}")


if __name__ == "__main__":
    app.run(main)
