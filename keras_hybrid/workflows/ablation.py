"""The rows of a paper's ablation table trained on a data set, and a table beside the paper's."""

import dataclasses
import datetime
import json
import re
import time
from pathlib import Path

import keras

from keras_hybrid.analysis.ablation_table import ablation_table, order_of_rows
from keras_hybrid.analysis.ablations import Ablation, AblationRow, find_ablation
from keras_hybrid.analysis.cost import count_multiply_adds
from keras_hybrid.benchmark import provenance
from keras_hybrid.commentary import STANDARD_ERROR
from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.interleaved import time_interleaved
from keras_hybrid.files import MODEL_FILE, write_text
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.recipe.common import as_plain
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.run.run import train


def ablate(
    table: str,
    source: ImageSource,
    recipe: Recipe,
    folder: str | Path,
    *,
    model: str | None = None,
    seeds: int = 3,
    at_most: int | None = None,
    latency: bool = True,
    command: str = "",
    stream=STANDARD_ERROR,
) -> str | None:
    """Trains what is missing of a table, up to `at_most` runs, and writes it once all is there.

    A finished run is a line of `rows.jsonl` before the next one starts, and the same call goes on
    where it was interrupted, inside a run too. At the end `folder` gets `table.md`.

    Args:
        table: name of the ablation, such as "mobile_former/table5".
        source: the images.
        recipe: of all runs; its model and the options of a row are replaced.
        folder: of the results.
        model: builder to vary; the paper's if None.
        seeds: how often each row is trained.
        at_most: train so many runs, then stop; to share a machine.
        latency: whether each row's `.tflite` is timed on this machine, in turns.
        command: that repeats this, for the table.
        stream: where progress goes.

    Returns: the table's text, or None while runs are left.

    Raises:
        ValueError: when there is no such table, or the folder holds another ablation.
        TrainingDivergedError: when a run's loss is no finite number.
    """
    ablation = find_ablation(table)
    recipe = dataclasses.replace(recipe, model=model or ablation.model)
    folder = Path(folder)
    _claim(folder, {"table": table, "data": source.name, "recipe": as_plain(recipe)})
    rows = read_runs(folder)
    # A seed's runs of all rows come before the next seed's, so that a table cut short compares.
    plan = [(row, recipe.seed + n) for n in range(seeds) for row in ablation.rows]
    done = {(run["row"], run["seed"]) for run in rows}
    missing = [(row, seed) for row, seed in plan if (row.label, seed) not in done]
    for row, seed in missing[:at_most]:
        print(f"[{len(rows) + 1}/{len(plan)}] {row.label}, seed {seed}", file=stream)
        rows.append(_run(folder, row, dataclasses.replace(recipe, seed=seed), source))
        write_text(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        keras.backend.clear_session()
    left = len(plan) - len(rows)
    if left > 0:
        print(f"{folder}: {left} of {len(plan)} runs left; the same command goes on", file=stream)
        return None
    latencies = _time_rows(folder, ablation, recipe, stream) if latency else None
    text = _text(ablation, recipe, source, rows, latencies, command)
    write_text(folder / "table.md", text)
    return text


def read_runs(folder: Path) -> list[dict]:
    """The finished runs of an ablation's folder."""
    path = folder / "rows.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _claim(folder, wanted):
    """Writes what the folder's runs are, or checks that they are the same."""
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
            f"Received: folder={folder}, {'; '.join(different)}"
        )


def _run_folder(folder, label, seed):
    name = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return folder / "runs" / f"{name}_seed{seed}"


def _run(folder, row: AblationRow, recipe, source):
    """Trains a row with a seed, or finishes doing so, and returns what to remember of it."""
    started = time.monotonic()
    options = {**recipe.model_options, **row.options}
    recipe = dataclasses.replace(recipe, model_options=options)
    run = train(recipe, source, _run_folder(folder, row.label, recipe.seed))
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
        "multiply_adds": count_multiply_adds(run.model, recipe.resolution),
        # Of a run that was interrupted, this process saw the end only.
        "seconds": round(max(time.monotonic() - started, seconds), 1),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "keras": f"{keras.__version__} on {keras.backend.backend()}",
        "machine": f"{device['soc']}, {device['cores']} cores",
        **provenance.harness(),
    }


def _time_rows(folder, ablation: Ablation, recipe, stream):
    """Latency in ms of each row's network of the first seed, all timed in turns."""
    paths = []
    for row in ablation.rows:
        trained = _run_folder(folder, row.label, recipe.seed)
        print(f"exporting {row.label}", file=stream)
        model = keras.models.load_model(trained / MODEL_FILE)
        paths.append(export_tflite(model, trained / "model.tflite"))
    timings = time_interleaved(paths)
    return {row.label: timing.median_ms for row, timing in zip(ablation.rows, timings, strict=True)}


def _text(ablation, recipe, source, rows, latencies, command):
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
    return f"""# {ablation.title}: {recipe.model} on {source.name}

Trained on **{source.name}** at {recipe.resolution} px, **not on ImageNet**: accuracies are not \
comparable with the paper's, which stand beside them for the order of the rows. \
{len(rows)} runs of {recipe.epochs} epochs; accuracy on the {images} images of the split \
"{source.evaluation_split}" after the last epoch (one image is {100 / images:.2f} %). \
Parameters and multiply-adds are those of the networks trained here; the paper's are of \
{ablation.model} at its size.{timed}

{ablation_table(ablation, rows, latencies)}

{order_of_rows(ablation, rows)} ("~": nearer than the greater standard deviation of the two.)

Command: `{command}`

Provenance: {rows[0]["machine"]}; Keras {rows[0]["keras"]}; keras-hybrid \
{rows[0]["harness_version"]}, commit {commits}; {dates[0]} to {dates[-1]}; {minutes:.1f} minutes \
of training in all. Every run is a line of `rows.jsonl`; the recipe stands in `ablation.json`.
"""
