"""int8 against float32: latency, size and what stays in float, on one thread of this machine.

    python comparisons/benchmark_int8.py --folder=runs/int8
    python comparisons/benchmark_int8.py --folder=runs/int8 --reuse --models=MobileViTXXS --bar

Exports every model three times, with random weights: in float32 and in the profiles "int8_cpu"
and "int8", both for CPUs, their ranges calibrated on a few images of noise, which is enough for
latencies and sizes and says nothing about accuracy. Times each model's files in turns, and prints
for each file: operators, delegate partitions, operators outside of the delegate, activations in
float, size and latency in times of the float32 file's (median over the turns, and quartiles);
below, the geometric means. The rows are stored in FOLDER/int8.json. With --bar the exit status is 1
unless "int8_cpu" takes at most 0.62 of float32's time in the geometric mean and 0.8 at worst,
"int8" at most 1.5, both are at most 0.28 of its size, and nothing in "int8" is in float.
"""

import json
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

PRECISIONS = ("float32", "int8_cpu", "int8")
MEAN = {"int8_cpu": 0.62}
WORST = {"int8_cpu": 0.8, "int8": 1.5}
SIZE = 0.28

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "models",
    ["MobileFormer294M", "MobileViTXXS", "MobileViTS", "IFormerT", "IFormerM"],
    "Builders' names.",
)
flags.DEFINE_string("folder", "runs/int8", "Where files and rows go.")
flags.DEFINE_bool("reuse", False, "Take files that are in the folder already.")
flags.DEFINE_bool("bar", False, "Exit with status 1 where a bar is missed.")
flags.DEFINE_integer("input_size", None, "Height and width; the network's own by default.", 32)
flags.DEFINE_integer("images", 4, "How many images of noise to calibrate with.", 1)
flags.DEFINE_integer("rounds", 15, "How many turns each file gets.", 1)
flags.DEFINE_float("seconds", 0.2, "Least length of a turn.", 0.001)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    try:
        sys.exit(run())
    except ValueError as error:
        sys.exit(f"benchmark_int8.py: {error}")


def run():
    """Exports, measures and prints; returns the exit status."""
    folder = Path(FLAGS.folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: export(name, folder) for name in dict.fromkeys(FLAGS.models)}
    rows = [row for name, paths in files.items() for row in measure(name, paths)]
    temporary = folder / ".int8.json"
    temporary.write_text(json.dumps(rows, indent=1))
    os.replace(temporary, folder / "int8.json")
    show(rows)
    missed = misses(rows)
    print("\n".join(missed) or "every bar is held")
    return int(FLAGS.bar and bool(missed))


def export(name, folder):
    """The paths of a model's files, made where they are missing."""
    import numpy as np

    import keras_hybrid
    from keras_hybrid.export.random_weights import randomize_norms

    size = FLAGS.input_size
    stem = name if size is None else f"{name}_{size}"
    paths = {precision: folder / f"{stem}_{precision}.tflite" for precision in PRECISIONS}
    wanted = {x: path for x, path in paths.items() if not (FLAGS.reuse and path.is_file())}
    if wanted:
        options = {} if size is None else {"input_shape": (size, size, 3)}
        model = keras_hybrid.build_model(name, weights=None, **options)
        randomize_norms(model)
        shape = (FLAGS.images, *model.input_shape[1:])
        noise = np.random.default_rng(0).normal(size=shape).astype("float32")
    for precision, path in wanted.items():
        print(f"exporting {path.name}", flush=True)
        data = None if precision == "float32" else noise
        keras_hybrid.export_tflite(model, path, precision, target="cpu", representative_data=data)
    return paths


def measure(name, paths):
    """A row for each file of a model."""
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.interleaved import time_interleaved

    print(f"timing {name}, {FLAGS.rounds} turns each", flush=True)
    timings = time_interleaved(list(paths.values()), FLAGS.rounds, FLAGS.seconds)
    found = {precision: inspect_tflite(path) for precision, path in paths.items()}
    return [
        {
            "model": name,
            "input_size": found[precision].activations[0].shape[1],
            "precision": precision,
            "path": str(path),
            "ops": found[precision].num_ops,
            "partitions": found[precision].partitions,
            "undelegated": dict(found[precision].undelegated),
            "float_tensors": len(found[precision].float_tensors),
            "offenders": list(found[precision].integer_offenders) if precision == "int8" else [],
            "megabytes": found[precision].size_bytes / 1e6,
            "size": found[precision].size_bytes / found["float32"].size_bytes,
            "ms": timing.median_ms,
            "ratio": timing.ratio,
            "low": timing.low,
            "high": timing.high,
        }
        for (precision, path), timing in zip(paths.items(), timings, strict=True)
    ]


def geometric_mean(rows, precision):
    """Of the latencies' ratios."""
    ratios = [row["ratio"] for row in rows if row["precision"] == precision]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def show(rows):
    """Prints the table."""
    print(
        f"{'model':18}{'px':>5} {'precision':10}{'ops':>5}{'parts':>6}{'float':>6}{'MB':>8}"
        f"{'size':>7}{'ms':>9}{'ratio':>8}{'quartiles':>16}  outside of the delegate"
    )
    for row in rows:
        outside = ", ".join(f"{name} {count}" for name, count in row["undelegated"].items())
        print(
            f"{row['model'][:17]:18}{row['input_size']:5} {row['precision']:10}{row['ops']:5}"
            f"{row['partitions']:6}{row['float_tensors']:6}{row['megabytes']:8.2f}"
            f"{row['size']:7.3f}{row['ms']:9.3f}{row['ratio']:8.3f}"
            f"{row['low']:9.3f}-{row['high']:.3f}  {outside}"
        )
    for precision in PRECISIONS[1:]:
        count = len({row["model"] for row in rows})
        mean = geometric_mean(rows, precision)
        print(f"{precision} over float32, geometric mean of {count}: {mean:.3f}")


def misses(rows):
    """What bars are missed, and by which file."""
    missed = []
    for precision, bar in MEAN.items():
        mean = geometric_mean(rows, precision)
        if mean > bar:
            missed.append(f"{precision}: geometric mean {mean:.3f}, bar {bar}")
    for row in rows:
        name = f"{row['model']} {row['precision']}"
        if row["ratio"] > WORST.get(row["precision"], math.inf):
            missed.append(f"{name}: {row['ratio']:.3f} of float32's time")
        if row["precision"] != "float32" and row["size"] > SIZE:
            missed.append(f"{name}: {row['size']:.3f} of float32's size, bar {SIZE}")
        missed += [f"{name}: {offender}" for offender in row["offenders"]]
    return missed


if __name__ == "__main__":
    app.run(main)
