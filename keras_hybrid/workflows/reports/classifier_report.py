"""What came of a classifier's run by a recipe: `report.md`, and `report.html` whole in itself."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_hybrid.files import write_text
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.evaluation import Evaluation, evaluate
from keras_hybrid.training.recipe.common import as_plain
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.version import __version__
from keras_hybrid.workflows.reports.class_rows import class_rows, confusion_matrix, margins
from keras_hybrid.workflows.reports.page_parts import (
    cards,
    confusion,
    curves,
    document,
    figure,
    photos,
    picture,
    table,
    text,
)

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
IMAGES_SHOWN = 12
CLASS_HEAD = ("class", "images", "found", "claims right", "most often taken for")


@dataclass(frozen=True)
class ClassifierReport:
    """A run's numbers, as both files show them.

    Attributes:
        path: of the page.
        headline: the result in one line.
        split: that was evaluated.
        evaluation: of it.
        matrix: images by true and predicted class, (classes, classes).
    """

    path: Path
    headline: str
    split: str
    evaluation: Evaluation
    matrix: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Places of the images of which the network is wrong, the surest first."""
        found = self.evaluation
        places = np.flatnonzero(found.predictions != found.labels)
        return places[np.argsort(-found.scores[places].max(-1), kind="stable")]

    @property
    def unsure(self) -> np.ndarray:
        """Places of the images of which it is right by the least margin."""
        found = self.evaluation
        places = np.flatnonzero(found.predictions == found.labels)
        return places[np.argsort(margins(found.scores[places]), kind="stable")]


def write_classifier_report(
    run: Run, source: ImageSource, split: str | None = None
) -> ClassifierReport:
    """Evaluates a run and writes `report.md` and `report.html` into its folder.

    Args:
        run: finished.
        source: of its data.
        split: to evaluate; None for the evaluation split.
    """
    split = split or source.evaluation_split
    found = evaluate(run.model, evaluation_dataset(source, run.recipe, split))
    classes = len(run.class_names)
    headline = f"top-1 {found.accuracy:.2%} of {len(found.labels):,} {split} images"
    if classes > 5:
        headline += f", top-5 {found.top_accuracy(5):.2%}"
    headline += f" ({classes} classes, chance {1 / classes:.1%})"
    report = ClassifierReport(
        run.folder / PAGE_FILE, headline, split, found, confusion_matrix(found)
    )
    write_text(report.path, _page(report, run, source))
    write_text(run.folder / REPORT_FILE, markdown(report, run, source))
    return report


def markdown(report: ClassifierReport, run: Run, source: ImageSource) -> str:
    """The report for a terminal or a repository."""
    names, found = run.class_names, report.evaluation
    lines = [f"# {_title(run)}", "", f"**{report.headline}**", ""]
    lines += [f"| {' | '.join(CLASS_HEAD)} |", f"|{' --- |' * len(CLASS_HEAD)}"]
    lines += [f"| {' | '.join(row)} |" for row in _class_rows(report, run)]
    lines += ["", "Wrong, the surest first, by their place in the split:", ""]
    lines += [
        f"- {place}: {names[found.labels[place]]}, said {names[found.predictions[place]]} "
        f"({found.scores[place].max():.0%})"
        for place in report.wrong[:IMAGES_SHOWN]
    ] or ["None."]
    lines += _notes(source)
    lines += ["", "<details><summary>recipe</summary>", "", "```"]
    lines += [json.dumps(as_plain(run.recipe), indent=1), "```", "", "</details>"]
    return "\n".join(lines) + "\n"


def _notes(source):
    if not source.notes:
        return []
    return ["", "What was left out or changed:", "", *(f"- {note}" for note in source.notes)]


def _title(run):
    return f"{run.recipe.model} on {Path(run.data).name}"


def _class_rows(report, run):
    """Cells as text, the class that is found least often first."""
    rows = class_rows(run.class_names, report.matrix)
    rows.sort(key=lambda row: 2.0 if row.found is None else row.found)
    return [
        (row.name, str(row.images), _percent(row.found), _percent(row.claims_right), row.taken_for)
        for row in rows
    ]


def _percent(share):
    return "" if share is None else f"{share:.1%}"


def _page(report, run, source):
    found, names = report.evaluation, run.class_names
    recipe = run.recipe
    body = [
        f"<h1>{text(_title(run))}</h1>",
        f'<p class="lead">{text(report.headline)}</p>',
        cards(
            [
                (f"{found.accuracy:.2%}", f"of {len(found.labels):,} {report.split} images"),
                (f"{len(names):,}", "classes"),
                (f"{source.sizes['train']:,}", "training images"),
                (f"{recipe.resolution} px", "input, height and width"),
                (f"{len(run.history)}", "epochs"),
            ]
        ),
        "<h2>How training went</h2>",
        curves(run.history, len(names), "images"),
        "<h2>What is taken for what</h2>",
        confusion(names, report.matrix),
        "<h2>Class by class</h2>",
        table(CLASS_HEAD, _class_rows(report, run), numbers=(1, 2, 3), kind="nowrap"),
    ]
    for title, places in (
        ("Wrong, the surest first", report.wrong),
        ("Right, but least sure", report.unsure),
    ):
        shown = [_figure(report, run, source, int(place)) for place in places[:IMAGES_SHOWN]]
        body += [f"<h2>{title}</h2>", photos(shown, len(places)) if shown else "<p>None.</p>"]
    if source.notes:
        items = "".join(f"<li>{text(note)}</li>" for note in source.notes)
        body += ["<h2>What was left out or changed</h2>", f"<ul>{items}</ul>"]
    numbers = [(name, _value(value)) for name, value in as_plain(recipe).items()]
    body += ["<h2>Its recipe</h2>", table(("number", "value"), numbers)]
    body.append(
        f"<footer>keras_hybrid {__version__}. Found: share of a class' images that are "
        "recognised. Claims right: share of the images said to be of the class that are.</footer>"
    )
    return document(_title(run), body)


def _value(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figure(report, run, source, place):
    """An image as the network sees it, and what it says."""
    found, names = report.evaluation, run.class_names
    dataset = evaluation_dataset(
        source, run.recipe, report.split, preprocess=False, skip=place, batch_size=1
    )
    ((images, _),) = dataset.take(1).as_numpy_iterator()
    said, true = found.predictions[place], found.labels[place]
    caption = f"{text(names[said])} {found.scores[place].max():.0%}"
    if said != true:
        caption += f"<small>is {text(names[true])}</small>"
    return figure(picture(images[0]), caption, f"{report.split} {place}")
