"""From images to a trained, converted, verified, timed and quantised model, and a report."""

import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.analysis.cost import count_multiply_adds
from keras_hybrid.benchmark import benchmark_host
from keras_hybrid.benchmark.rows import Row
from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.inspect import Inspection, inspect_tflite
from keras_hybrid.export.verify import Verification, verify_tflite
from keras_hybrid.files import write_text
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.evaluation import Evaluation, evaluate
from keras_hybrid.training.pictures import plot_history, plot_predictions
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.run.run import train
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.version import __version__
from keras_hybrid.weights.preprocessing import preprocess_input
from keras_hybrid.workflows.int8_recipe import QuantizedRecipe
from keras_hybrid.workflows.int8_report import QuantizedReport, quantized_report
from keras_hybrid.workflows.int8_run import train_quantized


@dataclass(frozen=True)
class Quickstart:
    """What `quickstart` found.

    Attributes:
        run: the finished training.
        evaluation: of the trained model, on all test images.
        inspection: of the float32 `.tflite`, `model.tflite` in the run's folder.
        verification: of that file against the model, on all test images.
        latency: of that file on this machine.
        int8: the report of its int8 files; None where they were not asked for.
        path: of the written report.
        numbers: what the report's first table says.
    """

    run: Run
    evaluation: Evaluation
    inspection: Inspection
    verification: Verification
    latency: Row
    int8: QuantizedReport | None
    path: Path
    numbers: dict[str, str]

    def text(self) -> str:
        """The lines that tell it to a user."""
        width = max(map(len, self.numbers))
        lines = [f"{name:<{width}}  {value}" for name, value in self.numbers.items()]
        if self.int8 is not None:
            lines.append(self.int8.table())
        return "\n".join([*lines, str(self.path)])


def quickstart(
    recipe: Recipe,
    source: ImageSource,
    folder: str | Path,
    *,
    preprocessing: bool = False,
    threads: int = 1,
    int8: QuantizedRecipe | None = None,
    command: str = "",
    stream=sys.stderr,
) -> Quickstart:
    """Trains, evaluates, converts, verifies, times and quantises; an interrupted run goes on.

    Args:
        recipe: of the training.
        source: the images.
        folder: of the run; gets the files, the pictures and `report.md`.
        preprocessing: whether the `.tflite` takes RGB from 0 to 255.
        threads: that the `.tflite` is timed with.
        int8: the recipe of int8; None for no int8.
        command: that repeats this, for the report.
        stream: where progress goes.

    Raises:
        ValueError: when the folder holds another run, or the file cannot be timed.
    """
    started = time.monotonic()
    folder = Path(folder)
    steps = ["train", "evaluate", "convert", "verify", "time", "quantise", "report"]
    if int8 is None:
        steps.remove("quantise")

    def say(step):
        print(f"[{steps.index(step) + 1}/{len(steps)}] {step}", file=stream, flush=True)

    say("train")
    run = train(recipe, source, folder)

    say("evaluate")
    split = source.evaluation_split
    evaluation = evaluate(run.model, evaluation_dataset(source, recipe, split))
    images = np.concatenate(
        [batch for batch, _ in evaluation_dataset(source, recipe, split, preprocess=False)]
    )

    say("convert")
    path = export_tflite(run.model, folder / "model.tflite", preprocessing=preprocessing)
    inspection = inspect_tflite(path)

    say("verify")
    inputs = images if preprocessing else preprocess_input(images, run.model)
    verification = verify_tflite(path, run.model, inputs, preprocessing=preprocessing)

    say("time")
    latency = benchmark_host(path, threads)
    if latency.status != "ok":
        raise ValueError(f"Timing failed. Received: {path}: {'; '.join(latency.notes)}")

    report = None
    if int8 is not None:
        say("quantise")
        quantized = train_quantized(run, int8, folder / "int8", source=source)
        report = quantized_report(run, quantized, source)

    say("report")
    plot_history(run.history, folder / "curves.png")
    plot_predictions(
        images, evaluation.labels, evaluation.scores, run.class_names, folder / "predictions.png"
    )
    numbers = _numbers(run, evaluation, inspection, verification, latency, preprocessing, threads)
    numbers["seconds of this command"] = f"{time.monotonic() - started:.0f}"
    result = Quickstart(
        run,
        evaluation,
        inspection,
        verification,
        latency,
        report,
        folder / "report.md",
        numbers,
    )
    write_text(result.path, _text(result, command))
    return result


def _numbers(run, evaluation, inspection, verification, latency, preprocessing, threads):
    """The rows of the report's first table."""
    size = run.recipe.resolution
    return {
        "test accuracy": f"{evaluation.accuracy:.2%} of {len(evaluation.labels)} images",
        "parameters": f"{run.model.count_params():,}",
        f"multiply-adds at {size} x {size}": f"{count_multiply_adds(run.model):,}",
        "size of the .tflite": f"{inspection.size_bytes / 1e6:.2f} MB",
        "input of the .tflite": f"(1, {size}, {size}, 3) float32, "
        + ("RGB from 0 to 255" if preprocessing else "preprocessed"),
        "operators": f"{inspection.num_ops}, {inspection.custom_ops or 'none'} custom",
        "same class as Keras": f"{verification.agreeing} of {verification.total} images",
        "largest relative difference": f"{verification.relative_error:.1e}",
        "latency, median": f"{latency.median_ms:.3f} ms",
        "latency, 5 % to 95 %": f"{latency.p5_ms:.3f} to {latency.p95_ms:.3f} ms, "
        f"{latency.runs} runs, {threads} thread{'s' if threads > 1 else ''}",
        "seconds of training": f"{sum(epoch['seconds'] for epoch in run.history):.0f}",
    }


def _text(result, command):
    """The report, in Markdown."""
    recipe, latency = result.run.recipe, result.latency
    differing = "\n".join(
        f"- Test image {item.index}: class {item.keras_class} in Keras, {item.tflite_class} in the "
        f"file; Keras prefers its own by {item.margin:.2g}."
        for item in result.verification.differing
    )
    versions = {
        "keras-hybrid": __version__,
        "Python": platform.python_version(),
        "Keras": f"{keras.__version__} on {keras.backend.backend()}",
        "LiteRT": latency.binary["version"],
        "machine": f"{latency.device['soc']}, {latency.device['cores']} cores, {platform.system()}",
    }
    return f"""# {recipe.model} on {result.run.data}

Command: `{command}`

| what | result |
| --- | --- |
{_table(result.numbers)}

{differing or "Keras and the file agree on every test image."}
{_int8_section(result.int8, result.path.parent)}
![Training curves](curves.png)

![Predictions on test images](predictions.png)

| part | version |
| --- | --- |
{_table(versions)}

Recipe:

```
{recipe.describe()}
```
"""


def _int8_section(report, folder):
    if report is None:
        return ""
    return f"""
## In int8

{report.table()}

Post-training is calibrated alone, trained is calibrated and trained on; latencies were measured in
turns. [Layer by layer]({report.path.relative_to(folder).as_posix()})
"""


def _table(rows):
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())
