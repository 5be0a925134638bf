"""The quickstart's report as one HTML page."""

import numpy as np

from keras_hybrid.version import __version__
from keras_hybrid.workflows.int8_report import COLUMNS, NUMBERS
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

IMAGES_SHOWN = 12


def page(result, together: str) -> str:
    """The page of a `Quickstart`, as text.

    Args:
        result: of `quickstart`.
        together: how the files were measured, a few sentences.
    """
    run, evaluation = result.run, result.evaluation
    names = [str(name) for name in run.class_names]
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (evaluation.labels, evaluation.predictions), 1)
    body = [
        f"<h1>{text(result.title)}</h1>",
        f'<p class="lead">{evaluation.accuracy:.1%} of {len(evaluation.labels)} test images right '
        f"({len(names)} classes, chance {1 / len(names):.0%})</p>",
        cards(_figures(result)),
    ]
    if result.int8 is not None:
        body += [
            "<h2>Float and int8, measured together</h2>",
            table(COLUMNS, result.int8.cells(), numbers=NUMBERS, kind="nowrap"),
            f'<p class="soft">{text(together)}</p>',
        ]
    body += [
        "<h2>What to do next</h2>",
        "<ul>" + "".join(f"<li>{marked(line)}</li>" for line in _advice(result)) + "</ul>",
        "<h2>How training went</h2>",
        curves(run.history, len(names), "images"),
        "<h2>What is taken for what</h2>",
        confusion(names, matrix),
        "<h2>Wrong, the surest first</h2>",
        _images(result, names, *_wrong(evaluation)),
        "<h2>Right, but least sure</h2>",
        _images(result, names, *_unsure(evaluation)),
        "<h2>The file beside Keras</h2>",
        "<ul>"
        + "".join(
            f"<li>{text(line)}</li>"
            for line in result.differing or ["Keras and the file agree on every test image."]
        )
        + "</ul>",
        table(("what", "result"), result.numbers.items()),
        "<h2>Made with</h2>",
        table(("part", "version"), result.parts.items()),
        f"<footer>keras_hybrid {__version__}. <code>{text(result.command)}</code></footer>",
    ]
    return document(result.title, body)


def _figures(result):
    run = result.run
    return [
        (f"{result.evaluation.accuracy:.1%}", f"of {len(result.evaluation.labels)} test images"),
        (f"{run.model.count_params() / 1e6:.1f} M", "parameters"),
        (f"{run.recipe.resolution} px", "input, height and width"),
        (
            duration(sum(epoch["seconds"] for epoch in run.history)),
            f"of training, {len(run.history)} epochs",
        ),
        (f"{result.inspection.size_bytes / 1e6:.1f} MB", "as .tflite, float32"),
        (f"{result.timing.median_ms:.2f} ms", "an image, one thread here"),
    ]


def _advice(result):
    folder = result.run.folder.as_posix()
    return [
        "Your own photos, one folder for each class: `keras-hybrid train photos --out=runs/p`.",
        f"What is in the file, and which engines take it: `keras-hybrid check "
        f"{folder}/model.tflite`.",
        f"On a phone, beside this machine: `keras-hybrid benchmark {folder}/model.tflite "
        "--target=android --benchmark_binary=benchmark_model`.",
    ]


def _wrong(evaluation):
    """Places of wrong images, the surest first, and how many there are."""
    places = np.flatnonzero(evaluation.predictions != evaluation.labels)
    places = places[np.argsort(-evaluation.scores[places].max(-1), kind="stable")]
    return places[:IMAGES_SHOWN], len(places)


def _unsure(evaluation):
    """Places of the images that are right by the least margin."""
    right = np.flatnonzero(evaluation.predictions == evaluation.labels)
    ranked = np.sort(evaluation.scores[right], axis=-1)
    right = right[np.argsort(ranked[:, -1] - ranked[:, -2], kind="stable")][:IMAGES_SHOWN]
    return right, len(right)


def _images(result, names, places, total):
    if not len(places):
        return '<p class="soft">None.</p>'
    evaluation, shown = result.evaluation, []
    for place in places:
        label, said = evaluation.labels[place], evaluation.predictions[place]
        caption = f"{text(names[said])} {evaluation.scores[place].max():.0%}"
        if said != label:
            caption += f"<small>is {text(names[label])}</small>"
        shown.append(figure(picture(result.images[place]), caption, f"test image {place}"))
    return photos(shown, total)
