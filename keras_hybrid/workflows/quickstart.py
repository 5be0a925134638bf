"""From images to a trained, converted, verified, timed and quantised model, and a report."""

import dataclasses
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.analysis.cost import count_multiply_adds
from keras_hybrid.benchmark import benchmark_host
from keras_hybrid.commentary import STANDARD_ERROR
from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.inspect import Inspection, inspect_tflite
from keras_hybrid.export.interleaved import Timing, time_interleaved
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
from keras_hybrid.workflows.int8_report import PARTITIONS, QuantizedReport, quantized_report
from keras_hybrid.workflows.int8_run import train_quantized
from keras_hybrid.workflows.reports.quickstart_page import page

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
CPU_PROFILE = "int8_cpu"
TOGETHER = (
    "All files in one run, in turns on one thread. Post-training is calibrated alone, trained is "
    "calibrated and trained on. int8 has integers everywhere, as NPUs want them; int8_cpu leaves "
    f"in float what a phone's CPU computes faster so. {PARTITIONS}"
)


@dataclass(frozen=True)
class Quickstart:
    """What `quickstart` found.

    Attributes:
        run: the finished training.
        evaluation: of the trained model, on all test images.
        inspection: of the float32 `.tflite`, `model.tflite` in the run's folder.
        verification: of that file against the model, on all test images.
        timing: of the float file on one thread of this machine, in turns with the int8 files.
        int8: the report of all files, int8 and int8_cpu; None where they were not asked for.
        path: of the written page; `report.md` beside it says the same.
        numbers: what the report's first table says.
        parts: versions of what computed it, by name.
        images: of the test split, RGB of 0 to 255.
        command: that repeats it.
    """

    run: Run
    evaluation: Evaluation
    inspection: Inspection
    verification: Verification
    timing: Timing
    int8: QuantizedReport | None
    path: Path
    numbers: dict[str, str]
    parts: dict[str, str]
    images: np.ndarray
    command: str

    @property
    def title(self) -> str:
        """Of the report."""
        return f"{self.run.recipe.model} on {self.run.data}"

    @property
    def differing(self) -> list[str]:
        """A sentence for each test image that Keras and the float file put in other classes."""
        return [
            f"Test image {item.index}: class {item.keras_class} in Keras, {item.tflite_class} in "
            f"the file; Keras prefers its own by {item.margin:.2g}."
            for item in self.verification.differing
        ]

    def text(self) -> str:
        """The lines that tell it to a user."""
        width = max(map(len, self.numbers))
        lines = [f"{name:<{width}}  {value}" for name, value in self.numbers.items()]
        if self.int8 is not None:
            lines += ["", self.int8.table(short=True), ""]
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
    stream=STANDARD_ERROR,
) -> Quickstart:
    """Trains, evaluates, converts, verifies, times and quantises; an interrupted run goes on.

    Args:
        recipe: of the training.
        source: the images.
        folder: of the run; gets the files, the pictures and `report.md`.
        preprocessing: whether the `.tflite` takes RGB from 0 to 255.
        threads: of one more timing of the float file, where there is more than one.
        int8: the recipe of int8; None for no int8. Its file is for CPUs unless it says otherwise:
            it is timed on this one.
        command: that repeats this, for the report.
        stream: where progress goes.

    Raises:
        ValueError: when the folder holds another run, or the file cannot be timed.
    """
    started = time.monotonic()
    folder = Path(folder)
    steps = ["train", "evaluate", "convert", "verify", "quantise", "time", "report"]
    if int8 is None:
        steps.remove("quantise")
    else:
        int8 = dataclasses.replace(int8, target=int8.target or "cpu")

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

    report = None
    if int8 is not None:
        say("quantise")
        quantized = train_quantized(run, int8, folder / "int8", source=source)
        beside = dataclasses.replace(int8, profile=CPU_PROFILE, target="cpu", epochs=0)
        for_cpu = train_quantized(run, beside, folder / CPU_PROFILE, source=source)
        say("time")
        report = quantized_report(run, quantized, source, beside=[for_cpu])
        timing = report.rows[0].timing
    else:
        say("time")
        (timing,) = time_interleaved([path])

    say("report")
    plot_history(run.history, folder / "curves.png")
    plot_predictions(
        images, evaluation.labels, evaluation.scores, run.class_names, folder / "predictions.png"
    )
    numbers = _numbers(run, evaluation, inspection, verification, timing, preprocessing)
    if threads > 1:
        numbers[f"latency on {threads} threads"] = _threaded(path, threads)
    numbers["seconds of this command"] = f"{time.monotonic() - started:.0f}"
    result = Quickstart(
        run,
        evaluation,
        inspection,
        verification,
        timing,
        report,
        folder / PAGE_FILE,
        numbers,
        _parts(),
        images,
        command,
    )
    write_text(result.path, page(result, TOGETHER))
    write_text(folder / REPORT_FILE, _text(result))
    return result


def _numbers(run, evaluation, inspection, verification, timing, preprocessing):
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
        "latency": f"{timing.median_ms:.3f} ms of one thread",
        "seconds of training": f"{sum(epoch['seconds'] for epoch in run.history):.0f}",
    }


def _threaded(path, threads):
    """The float file by itself on several threads, by the clock."""
    row = benchmark_host(path, threads)
    if row.status != "ok":
        raise ValueError(f"Timing failed. Received: {path}: {'; '.join(row.notes)}")
    return f"{row.median_ms:.3f} ms, by the clock"


def _parts():
    return {
        "keras-hybrid": __version__,
        "Python": platform.python_version(),
        "Keras": f"{keras.__version__} on {keras.backend.backend()}",
        "LiteRT": version("ai-edge-litert"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }


def _text(result):
    """The report, in Markdown."""
    differing = "\n".join(f"- {line}" for line in result.differing)
    return f"""# {result.title}

Command: `{result.command}`

| what | result |
| --- | --- |
{_table(result.numbers)}

{differing or "Keras and the file agree on every test image."}
{_int8_section(result.int8, result.path.parent)}
![Training curves](curves.png)

![Predictions on test images](predictions.png)

| part | version |
| --- | --- |
{_table(result.parts)}

Recipe:

```
{result.run.recipe.describe()}
```
"""


def _int8_section(report, folder):
    if report is None:
        return ""
    return f"""
## Float and int8, measured together

{report.table()}

{TOGETHER}

[Layer by layer]({report.path.relative_to(folder).as_posix()})
"""


def _table(rows):
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())
