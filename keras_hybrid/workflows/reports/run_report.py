"""What came of a run on photos: `report.md`, and `report.html` that is whole in itself."""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.interleaved import time_interleaved
from keras_hybrid.files import write_text
from keras_hybrid.training.evaluation import Evaluation
from keras_hybrid.workflows.photos import PhotoRun, predictions
from keras_hybrid.workflows.reports.class_rows import class_rows, confusion_matrix, margins
from keras_hybrid.workflows.reports.run_report_page import page, place

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
PHOTOS_SHOWN = 12
# A class that is recognised less often than this is worth a word.
WEAK_CLASS = 0.8
FEW_PHOTOS = 30
ENOUGH_TO_TELL = 5  # photos of a class, to judge it by


@dataclass(frozen=True)
class PhotoAnswer:
    """What the network says about one photo.

    Attributes:
        file: of the photo.
        label: its true class.
        predicted: the network's.
        score: of that.
        margin: over the next class.
    """

    file: str
    label: int
    predicted: int
    score: float
    margin: float


@dataclass(frozen=True)
class OnThisMachine:
    """The network as a file.

    Attributes:
        megabytes: of the `.tflite` in float32.
        milliseconds: an image, on one thread of this machine.
    """

    megabytes: float
    milliseconds: float


@dataclass(frozen=True)
class RunReport:
    """A run's numbers, as both files show them.

    Attributes:
        path: of the page.
        title: of both.
        headline: the result in one line.
        trained: the run.
        split: that was evaluated: "test" where there is one, else the validation split.
        evaluation: of its photos.
        answers: one a photo, in the split's order.
        matrix: photos by true and predicted class, (classes, classes).
        machine: size and latency; None where they cannot be measured.
        advice: what to do next, a sentence each.
    """

    path: Path
    title: str
    headline: str
    trained: PhotoRun
    split: str
    evaluation: Evaluation
    answers: tuple[PhotoAnswer, ...]
    matrix: np.ndarray
    machine: OnThisMachine | None
    advice: tuple[str, ...]

    @property
    def wrong(self) -> list[PhotoAnswer]:
        """Photos of which the network is wrong, the surest first."""
        found = [answer for answer in self.answers if answer.predicted != answer.label]
        return sorted(found, key=lambda answer: -answer.score)

    @property
    def unsure(self) -> list[PhotoAnswer]:
        """Photos of which it is right by the least margin."""
        found = [answer for answer in self.answers if answer.predicted == answer.label]
        return sorted(found, key=lambda answer: answer.margin)

    def class_rows(self) -> list[dict]:
        """A row for each class: photos, how many are found, how many claims are right."""
        trained_on = self.trained.photos.counts("train")
        rows = class_rows(self.trained.run.class_names, self.matrix)
        return [
            {
                "name": row.name,
                "training photos": training,
                "photos": row.images,
                "found": row.found,
                "claims right": row.claims_right,
                "taken for": row.taken_for,
            }
            for row, training in zip(rows, trained_on, strict=True)
        ]


def write_run_report(trained: PhotoRun, measure: bool = True) -> RunReport:
    """Evaluates a run and writes `report.md` and `report.html` into its folder.

    Args:
        trained: of `train_photos`.
        measure: whether the network is converted and timed on this machine, which takes half a
            minute; where LiteRT is missing, the report says so.
    """
    run, photos = trained.run, trained.photos
    split = "test" if "test" in photos.files else photos.source.evaluation_split
    evaluation = predictions(run, photos.source, split)
    answers = _answers(evaluation, photos.files[split])
    classes = len(run.class_names)
    name = Path(photos.source.name).name
    report = RunReport(
        path=run.folder / PAGE_FILE,
        title=f"{run.recipe.model} on {name}",
        headline=f"{evaluation.accuracy:.1%} of {len(answers)} {split} photos right "
        f"({classes} classes, chance {1 / classes:.0%})",
        trained=trained,
        split=split,
        evaluation=evaluation,
        answers=answers,
        matrix=confusion_matrix(evaluation),
        machine=_measured(run.model) if measure else None,
        advice=(),
    )
    report = dataclasses.replace(report, advice=tuple(advice(report)))
    write_text(report.path, page(report))
    write_text(run.folder / REPORT_FILE, markdown(report))
    return report


def _answers(evaluation, files):
    return tuple(
        PhotoAnswer(file, label, int(predicted), float(scores.max()), float(margin))
        for (file, label), predicted, scores, margin in zip(
            files,
            evaluation.predictions,
            evaluation.scores,
            margins(evaluation.scores),
            strict=True,
        )
    )


def _measured(model):
    """Size and latency of the float file, with preprocessing inside; None without LiteRT."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = export_tflite(model, Path(folder) / "model.tflite", preprocessing=True)
            (timing,) = time_interleaved([path], rounds=7)
        except ModuleNotFoundError:
            return None
        return OnThisMachine(path.stat().st_size / 1e6, timing.median_ms)


def advice(report: RunReport) -> list[str]:
    """What would help most, by what the numbers show."""
    rows, run = report.class_rows(), report.trained.run
    found = []
    total = len(report.answers)
    if report.split == report.trained.photos.source.evaluation_split:
        found.append(
            f"The weights were chosen by these {total} {report.split} photos, so the figure "
            "flatters a little: photos that training never sees tell more, in a `test` folder "
            "beside `train` and `validation`."
        )
    if total < FEW_PHOTOS:
        found.append(
            f"{total} {report.split} photos tell little: one of them is {100 / total:.0f} points. "
            "Put more into the folders, some hundred if you can."
        )
    few = [row["name"] for row in rows if row["training photos"] < FEW_PHOTOS]
    if few:
        found.append(
            f"Add photos of {_listed(few)}: fewer than {FEW_PHOTOS} for training each. Take them "
            "where the app will be used: its light, distances and backgrounds."
        )
    weak = [row for row in rows if row["photos"] >= ENOUGH_TO_TELL and row["found"] < WEAK_CLASS]
    for row in sorted(weak, key=lambda row: row["found"])[:3]:
        taken = f", most often taken for {row['taken for']}" if row["taken for"] else ""
        found.append(f"{row['name']} is found in {row['found']:.0%} of its photos{taken}.")
    last = run.history[-1]
    if last["accuracy"] - report.evaluation.accuracy > 0.1:
        found.append(
            "It knows its training photos much better than others: more or more varied photos "
            "help, more epochs do not."
        )
    if report.wrong:
        found.append("Look at the wrong photos below: labels that are wrong themselves come first.")
    if run.recipe.initial_weights is None:
        found.append(
            "It was trained from random weights. Published weights need far fewer photos: fetch "
            f"them where there is a network, `keras-hybrid weights {run.recipe.model} --fetch`."
        )
    folder = run.folder.as_posix()
    found.append(f"Try it: `keras-hybrid predict {folder} PICTURE --save=answer.png`.")
    found.append(
        f"Onto the phone: `keras-hybrid convert {folder}`; smaller and quicker: "
        f"`keras-hybrid quantize {folder} --out={folder}_int8`."
    )
    return found


def markdown(report: RunReport) -> str:
    """The report for a terminal or a repository."""
    trained, names = report.trained, report.trained.run.class_names
    lines = [f"# {report.title}", "", f"**{report.headline}**", ""]
    lines += ["## What to do next", "", *(f"- {text}" for text in report.advice), ""]
    lines += [
        "## Classes",
        "",
        "| class | training photos | photos | found | claims right | most often taken for |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in report.class_rows():
        lines.append(
            f"| {row['name']} | {row['training photos']} | {row['photos']} "
            f"| {_percent(row['found'])} | {_percent(row['claims right'])} | {row['taken for']} |"
        )
    lines += ["", "## Wrong, the surest first", ""]
    lines += [
        f"- `{place(answer.file)}`: {names[answer.label]}, said {names[answer.predicted]} "
        f"({answer.score:.0%})"
        for answer in report.wrong[:PHOTOS_SHOWN]
    ] or ["None."]
    lines += ["", "## How it was trained", "", "| number | value | why |", "| --- | --- | --- |"]
    lines += [f"| {item.name} | {item.value} | {item.reason} |" for item in trained.plan.choices]
    lines += [
        "",
        f"Kept: the weights of the {trained.kept} epoch (validation accuracy: last "
        f"{trained.scores['last']:.1%}, best {trained.scores['best']:.1%}; "
        f"{len(trained.run.history)} epochs, {trained.seconds:.0f} s).",
        "",
    ]
    if report.machine:
        lines.append(
            f"As a .tflite in float32: {report.machine.megabytes:.1f} MB, "
            f"{report.machine.milliseconds:.2f} ms an image on one thread of this machine."
        )
    recipe = json.dumps(dataclasses.asdict(trained.run.recipe), indent=1)
    lines += ["", "<details><summary>recipe</summary>", "", f"```\n{recipe}\n```", "", "</details>"]
    return "\n".join(lines) + "\n"


def _percent(share):
    return "" if share is None else f"{share:.0%}"


def _listed(names, most=5):
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
