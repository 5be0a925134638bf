"""Trains the rows of a paper's ablation table on a data set; writes the table beside the paper's.

    python recipes/ablate.py --table=mobile_former/table5 --data=digits --model=MobileFormer26M \\
        --out=recipes/ablations/mobile_former_table5_digits epochs=6

Every row is trained --seeds times with --recipe; arguments after the flags replace its numbers, as
for train.py. A finished run is a line of OUT/rows.jsonl before the next one starts, and the same
command goes on where it was interrupted, inside a run too (OUT/runs). At the end OUT gets table.md:
mean and spread of the accuracy after the last epoch, parameters, multiply-adds and latency on this
machine, beside the paper's figures. Tables: mobile_former/table5 to table9, iformer/table1 (types
of attention), iformer/table6, iformer/table7, mobilevit/patch_size.
"""

import dataclasses
import datetime
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("table", None, "Which table, such as mobile_former/table5.")
flags.DEFINE_string("data", None, "digits, or the name of a TFDS set such as imagenet2012.")
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")
flags.DEFINE_string("model", None, "Builder to vary; the paper's if not set.")
flags.DEFINE_string("recipe", "digits", "A recipe beside this program, or a .py file.")
flags.DEFINE_integer("seeds", 3, "How often each row is trained.", lower_bound=1)
flags.DEFINE_string("out", None, "Folder of the results, such as runs/table5.")
flags.DEFINE_integer("at_most", None, "Train so many runs, then stop; to share a machine.")
flags.DEFINE_bool("latency", True, "Time each row's .tflite on this machine, in turns.")
flags.mark_flags_as_required(["table", "data", "out"])


def main(argv):
    # Imported here, so that --help answers at once.
    from keras_hybrid.training.run.callbacks import TrainingDivergedError
    from keras_hybrid.training.run.startup import prepare_process

    prepare_process()
    try:
        ablate(argv[1:])
    except (ValueError, TrainingDivergedError) as error:
        sys.exit(f"ablate.py: {error}")


def ablate(overrides):
    """Trains what is missing, up to --at_most runs, and writes the table once all is there."""
    import keras

    from keras_hybrid.analysis.ablations import find_ablation
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.recipe.recipe import load_recipe, override

    ablation = find_ablation(FLAGS.table)
    path = Path(FLAGS.recipe)
    if path.suffix != ".py":
        path = Path(__file__).parent / f"{FLAGS.recipe}.py"
    recipe = override(load_recipe(path), overrides)
    recipe = dataclasses.replace(recipe, model=FLAGS.model or ablation.model)
    folder = Path(FLAGS.out)
    claim(folder, recipe)
    rows = read_rows(folder)
    # A seed's runs of all rows come before the next seed's, so that a table cut short compares.
    plan = [(row, recipe.seed + n) for n in range(FLAGS.seeds) for row in ablation.rows]
    done = {(run["row"], run["seed"]) for run in rows}
    missing = [(row, seed) for row, seed in plan if (row.label, seed) not in done]
    source = open_source(FLAGS.data, FLAGS.data_dir)
    for row, seed in missing[: FLAGS.at_most]:
        print(f"[{len(rows) + 1}/{len(plan)}] {row.label}, seed {seed}", file=sys.stderr)
        rows.append(run_row(folder, row, dataclasses.replace(recipe, seed=seed), source))
        write_rows(folder, rows)
        keras.backend.clear_session()
    left = len(plan) - len(rows)
    if left > 0:
        print(f"{folder}: {left} of {len(plan)} runs left; the same command goes on")
        return
    write_table(folder, ablation, recipe, source, rows)


def claim(folder, recipe):
    """Writes what the folder's runs are, or checks that they are the same."""
    from keras_hybrid.files import write_text
    from keras_hybrid.training.recipe.recipe import as_plain

    wanted = {"table": FLAGS.table, "data": FLAGS.data, "recipe": as_plain(recipe)}
    path = folder / "ablation.json"
    if not path.exists():
        write_text(path, json.dumps(wanted, indent=1) + "\n")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    found, wanted = ({**whole, **whole.pop("recipe")} for whole in (found, wanted))
    different = [
        f"{name}={found.get(name)!r} there, {value!r} now"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if different:
        raise ValueError(
            "The folder holds another ablation: choose another, or remove it. "
            f"Received: --out={folder}, {'; '.join(different)}"
        )


def read_rows(folder):
    path = folder / "rows.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(folder, rows):
    from keras_hybrid.files import write_text

    write_text(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def run_folder(folder, label, seed):
    name = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return folder / "runs" / f"{name}_seed{seed}"


def run_row(folder, row, recipe, source):
    """Trains a row with a seed, or finishes doing so, and returns what to remember of it."""
    import keras

    import keras_hybrid
    from keras_hybrid.benchmark import provenance
    from keras_hybrid.training.run.run import train

    started = time.monotonic()
    options = {**recipe.model_options, **row.options}
    recipe = dataclasses.replace(recipe, model_options=options)
    run = train(recipe, source, run_folder(folder, row.label, recipe.seed))
    seconds = sum(epoch["seconds"] for epoch in run.history)
    device = provenance.host_device()
    return {
        "row": row.label,
        "seed": recipe.seed,
        "model": recipe.model,
        "options": options,
        "data": source.name,
        "resolution": recipe.resolution,
        "epochs": recipe.epochs,
        "accuracy": run.history[-1]["val_accuracy"],
        "loss": run.history[-1]["val_loss"],
        "parameters": sum(weight.numpy().size for weight in run.model.trainable_weights),
        "multiply_adds": keras_hybrid.count_multiply_adds(run.model, recipe.resolution),
        # Of a run that was interrupted, this process saw the end only.
        "seconds": round(max(time.monotonic() - started, seconds), 1),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "keras": f"{keras.__version__} on {keras.backend.backend()}",
        "machine": f"{device['soc']}, {device['cores']} cores",
        **provenance.harness(),
    }


def time_rows(folder, ablation, recipe):
    """Latency in ms of each row's network of the first seed, all timed in turns."""
    import keras

    import keras_hybrid
    from keras_hybrid.export.interleaved import time_interleaved
    from keras_hybrid.training.run.run import MODEL_FILE

    paths = []
    for row in ablation.rows:
        trained = run_folder(folder, row.label, recipe.seed)
        print(f"exporting {row.label}", file=sys.stderr)
        model = keras.models.load_model(trained / MODEL_FILE)
        paths.append(keras_hybrid.export_tflite(model, trained / "model.tflite"))
    timings = time_interleaved(paths)
    return {row.label: timing.median_ms for row, timing in zip(ablation.rows, timings, strict=True)}


def write_table(folder, ablation, recipe, source, rows):
    """Writes and prints table.md."""
    from keras_hybrid.analysis.ablation_table import ablation_table, order_of_rows
    from keras_hybrid.files import write_text

    latencies = time_rows(folder, ablation, recipe) if FLAGS.latency else None
    images = source.sizes[source.evaluation_split]
    minutes = sum(row["seconds"] for row in rows) / 60
    commits = ", ".join(sorted({str(row["git_commit"]) for row in rows}))
    dates = sorted(row["date"] for row in rows)
    timed = ""
    if latencies:
        timed = (
            " Latency: float32 .tflite of the first seed, one thread of this machine, CPU time, "
            "all rows timed in turns."
        )
    text = f"""# {ablation.title}: {recipe.model} on {source.name}

Trained on **{source.name}** at {recipe.resolution} px, **not on ImageNet**: accuracies are not \
comparable with the paper's, which stand beside them for the order of the rows. \
{len(rows)} runs of {recipe.epochs} epochs; accuracy on the {images} images of the split \
"{source.evaluation_split}" after the last epoch (one image is {100 / images:.2f} %). \
Parameters and multiply-adds are those of the networks trained here; the paper's are of \
{ablation.model} at its size.{timed}

{ablation_table(ablation, rows, latencies)}

{order_of_rows(ablation, rows)} ("~": nearer than the greater standard deviation of the two.)

Command: `python {shlex.join(sys.argv)}`

Provenance: {rows[0]["machine"]}; Keras {rows[0]["keras"]}; keras-hybrid \
{rows[0]["harness_version"]}, commit {commits}; {dates[0]} to {dates[-1]}; {minutes:.1f} minutes \
of training in all. Every run is a line of `rows.jsonl`; the recipe stands in `ablation.json`.
"""
    write_text(folder / "table.md", text)
    print(text)


if __name__ == "__main__":
    app.run(main)
