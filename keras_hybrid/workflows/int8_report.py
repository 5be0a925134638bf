"""Float, post-training and trained int8 side by side: what was lost, what was won, and where."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.inspect import Inspection, inspect_tflite
from keras_hybrid.export.interleaved import Timing, time_interleaved
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.files import write_text
from keras_hybrid.quantization.report import (
    LayerError,
    float_layers,
    layer_errors,
    warn_outside_ranges,
)
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.workflows.answers.compared_images import compared_images
from keras_hybrid.workflows.int8_run import QuantizedRun

PARTITIONS = (
    "A partition is a run of operators that XNNPACK, the engine of phones' CPUs, takes as a whole: "
    "1 is best, and more mean that others compute in between."
)
COLUMNS = (
    "model",
    "precision",
    "accuracy",
    "same class as Keras",
    "MB",
    "of float",
    "ms",
    "of float",
    "partitions",
)
NUMBERS = range(2, 9)  # columns of figures
FILE_COLUMNS = (3, 5)  # that a terminal does without


@dataclass(frozen=True)
class Row:
    """One file.

    Attributes:
        name: "float", "post-training" or "trained".
        precision: "float32" or the profile.
        path: of the `.tflite`.
        accuracy: of the file, on all test images; of a detector its average precision, of a
            network for segmentation its mIoU.
        agreement: share of them of the same class as the Keras model behind it; of a detector, of
            their anchors, of a network for segmentation, of their pixels.
        inspection: of the file.
        timing: among the others, in turns, on one thread of this machine.
    """

    name: str
    precision: str
    path: Path
    accuracy: float
    agreement: float
    inspection: Inspection
    timing: Timing


@dataclass(frozen=True)
class QuantizedReport:
    """What `quantized_report` found.

    Attributes:
        path: of the report.
        rows: of the files.
        errors: of the layers of the last int8 model, worst first.
        float_layers: names of layers left in float, and why.
        score: what the figure of the rows is called: "accuracy", "AP" of detectors, or "mIoU".
    """

    path: Path
    rows: tuple[Row, ...]
    errors: tuple[LayerError, ...]
    float_layers: dict[str, str]
    score: str = "accuracy"

    def table(self, short: bool = False) -> str:
        """The rows as a Markdown table, aligned.

        Args:
            short: whether for a terminal: without what the table in the file has besides.
        """
        shown = [
            index for index, name in enumerate(COLUMNS) if not short or index not in FILE_COLUMNS
        ]
        columns = [self.score if name == "accuracy" else name for name in COLUMNS]
        cells = [[row[index] for index in shown] for row in (columns, *self.cells())]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "| "
            + " | ".join(
                f"{cell:{'>' if index in NUMBERS else '<'}{width}}"
                for index, cell, width in zip(shown, row, widths, strict=True)
            )
            + " |"
            for row in cells
        ]
        rule = [
            "-" * (width - 1) + (":" if index in NUMBERS else "-")
            for index, width in zip(shown, widths, strict=True)
        ]
        return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, by `COLUMNS`."""
        first, found = self.rows[0], []
        for row in self.rows:
            size = row.inspection.size_bytes
            found.append(
                (
                    row.name,
                    row.precision,
                    f"{row.accuracy:.2%}",
                    f"{row.agreement:.2%}",
                    f"{size / 1e6:.2f}",
                    f"{size / first.inspection.size_bytes:.2f}",
                    f"{row.timing.median_ms:.3f}",
                    f"{row.timing.ratio:.2f}",
                    str(row.inspection.partitions),
                )
            )
        return found


def quantized_report(
    run: Run,
    quantized: QuantizedRun,
    source: ImageSource,
    worst: int = 15,
    beside: Sequence[QuantizedRun] = (),
) -> QuantizedReport:
    """Converts, evaluates and times a float run and its int8 models.

    Args:
        run: in float.
        quantized: made of it.
        source: of the test images.
        worst: how many layers the written report lists.
        beside: runs in other profiles, whose calibrated models are measured together with these.

    Returns: the report; `report.md` in the quantised run's folder says the same.
    """
    folder, profile = quantized.folder, quantized.recipe.profile
    compared = compared_images(run, source)
    images = compared.images
    models = [("float", run.model, "float32"), ("post-training", quantized.post_training, profile)]
    if quantized.trained is not None:
        models.append(("trained", quantized.trained, profile))
    last = models[-1][1]
    places = [folder] * len(models)
    for other in beside:
        models.append(("post-training", other.post_training, other.recipe.profile))
        places.append(other.folder)
    # They are measured on images as the network takes them; what goes to an app is another file.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="MediaPipe Tasks opens no file")
        files = [
            export_tflite(model, place / f"{name.replace('-', '_')}.tflite", precision=precision)
            for (name, model, precision), place in zip(models, places, strict=True)
        ]
    timings = time_interleaved(files)
    rows = []
    for (name, model, precision), path, timing in zip(models, files, timings, strict=True):
        outputs = run_tflite(path, images)
        answer = model.predict(images, verbose=0)
        answer = answer if isinstance(answer, dict) else {"scores": answer}
        rows.append(
            Row(
                name,
                precision,
                path,
                compared.score(outputs),
                float(np.mean(compared.classes(outputs) == compared.classes(answer))),
                inspect_tflite(path),
                timing,
            )
        )
    warn_outside_ranges(last, images)
    report = QuantizedReport(
        folder / "report.md",
        tuple(rows),
        tuple(layer_errors(last, images[:64])),
        float_layers(last),
        compared.title,
    )
    write_text(report.path, _text(run, quantized, report, worst))
    return report


def _text(run, quantized, report, worst):
    title = "Accuracy" if report.score == "accuracy" else report.score
    own = [row for row in report.rows if row.precision == quantized.recipe.profile]
    offenders = own[-1].inspection.integer_offenders
    layers = "\n".join(
        f"| {error.name} | {error.signal_to_noise:.1f} | {error.own:.1f} "
        f"| {error.low:.4g} to {error.high:.4g} |"
        for error in report.errors[:worst]
    )
    floats = "\n".join(f"- `{name}`: {why}" for name, why in report.float_layers.items())
    return f"""# {run.recipe.model} in {quantized.recipe.profile}

{report.table()}

{title} is the file's on all test images; latency is of one thread of this machine, in turns.
{PARTITIONS}

## Layers that int8 hurts most

Signal to noise in decibels against the same model without rounding: with all roundings before it,
and with its own alone. `keep_float=NAME` leaves a layer in float.

| layer | all | own | range |
| --- | --- | --- | --- |
{layers}

## Left in float

{floats or "Nothing."}

{f"Tensors in float: {len(offenders)}." if offenders else "The file has no tensor in float."}
"""
