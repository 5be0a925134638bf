"""A run's report as one HTML page: pictures and curves lie inside, nothing is fetched."""

from pathlib import Path

from keras_hybrid.image_files import ImageFileError, decode_image
from keras_hybrid.version import __version__
from keras_hybrid.workflows.reports.page_parts import (
    cards,
    confusion,
    curves,
    document,
    duration,
    figure,
    marked,
    photos,
    picture,
    table,
    text,
)

PHOTOS_SHOWN = 12


def page(report) -> str:
    """The page of a `RunReport`, as text."""
    trained, names = report.trained, report.trained.run.class_names
    return document(
        report.title,
        [
            f"<h1>{text(report.title)}</h1>",
            f'<p class="lead">{text(report.headline)}</p>',
            cards(_figures(report)),
            "<h2>What to do next</h2>",
            "<ul>" + "".join(f"<li>{marked(advice)}</li>" for advice in report.advice) + "</ul>",
            "<h2>How training went</h2>",
            curves(trained.run.history, len(names)),
            f'<p class="soft">Kept: the weights of the {trained.kept} epoch. Validation accuracy: '
            f"last epoch {trained.scores['last']:.1%}, best epoch {trained.scores['best']:.1%}."
            "</p>",
            "<h2>What is taken for what</h2>",
            confusion(names, report.matrix),
            "<h2>Class by class</h2>",
            _classes(report),
            "<h2>Wrong, the surest first</h2>",
            _photos(names, report.wrong, "None: every photo is right."),
            "<h2>Right, but least sure</h2>",
            _photos(names, report.unsure, "None."),
            *_left_out(trained.photos),
            "<h2>How the numbers were chosen</h2>",
            table(
                ("number", "value", "why"),
                [(item.name, item.value, item.reason) for item in trained.plan.choices],
            ),
            f"<footer>keras_hybrid {__version__}. Found: share of a class' photos that are "
            "recognised. Claims right: share of the photos said to be of the class that are."
            "</footer>",
        ],
    )


def _figures(report):
    trained = report.trained
    counts = trained.photos.counts("train")
    found = [
        (f"{report.evaluation.accuracy:.1%}", f"of {len(report.answers)} {report.split} photos"),
        (f"{len(counts)}", "classes"),
        (f"{sum(counts):,}", "training photos"),
        (f"{trained.run.recipe.resolution} px", "input, height and width"),
        (duration(trained.seconds), f"of training, {len(trained.run.history)} epochs"),
    ]
    if report.machine is None:
        return [*found, ("not measured", "latency: pip install 'keras-hybrid[tflite]'")]
    return [
        *found,
        (f"{report.machine.megabytes:.1f} MB", "as .tflite, float32"),
        (f"{report.machine.milliseconds:.1f} ms", "an image, one thread here"),
    ]


def _classes(report):
    return table(
        ("class", "trained on", report.split, "found", "claims right", "most often taken for"),
        [
            (
                row["name"],
                row["training photos"],
                row["photos"],
                _percent(row["found"]),
                _percent(row["claims right"]),
                row["taken for"],
            )
            for row in sorted(report.class_rows(), key=lambda row: row["found"] or 0)
        ],
        numbers=(1, 2, 3, 4),
        kind="nowrap",
    )


def _photos(names, answers, nothing):
    if not answers:
        return f'<p class="soft">{nothing}</p>'
    shown = []
    for answer in answers[:PHOTOS_SHOWN]:
        caption = f"{text(names[answer.predicted])} {answer.score:.0%}"
        if answer.predicted != answer.label:
            caption += f"<small>is {text(names[answer.label])}</small>"
        shown.append(figure(_thumbnail(answer.file), caption, place(answer.file)))
    return photos(shown, len(answers))


def _thumbnail(file):
    try:
        return picture(decode_image(file))
    except ImageFileError:  # it has gone since
        return ""


def place(file: str) -> str:
    """A photo's folder and name: where a user finds it."""
    return "/".join(Path(file).parts[-2:])


def _left_out(found):
    """What was found in the folder and not used."""
    if not found.left_out:
        return []
    items = "".join(f"<li>{text(line)}</li>" for line in found.left_out)
    return ["<h2>What was left out</h2>", f"<ul>{items}</ul>"]


def _percent(share):
    return "" if share is None else f"{share:.0%}"
