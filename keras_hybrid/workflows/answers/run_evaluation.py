"""How well a run's network does on a data set, whatever its task, in the words of its task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.detection_evaluation import evaluate_detection
from keras_hybrid.training.evaluation import Evaluation, evaluate
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.training.segmentation_evaluation import evaluate_segmentation
from keras_hybrid.training.tasks.of_recipe import task_of


@dataclass(frozen=True)
class RunEvaluation:
    """What a run's network is worth.

    Attributes:
        images: how many were evaluated.
        line: the figures, such as "top-1 93.00%".
        score: the first of them, from 0 to 1.
        head: names of the columns of `rows`.
        rows: of each class: its name, and its figures.
    """

    images: int
    line: str
    score: float
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def open_run_source(run: Run, data: str | None = None, data_dir: str | None = None) -> ImageSource:
    """The run's data set, or another of the same classes.

    Raises:
        ValueError: for other classes than the run's.
    """
    source = task_of(run.recipe).open_source(data or run.data, data_dir)
    if source.class_names != run.class_names:
        raise ValueError(
            "The data must have the classes that the run was trained on. Received: "
            f"{len(run.class_names)} classes {', '.join(run.class_names[:5])}..., but "
            f"{source.name} with {len(source.class_names)}: {', '.join(source.class_names[:5])}..."
        )
    return source


def evaluate_run(
    run: Run, model: keras.Model, source: ImageSource, split: str, verbose: int = 0
) -> RunEvaluation:
    """Evaluates a network of a run.

    Args:
        run: whose recipe says how.
        model: its network, of the last epoch or the best.
        source: of the images.
        split: its name.
        verbose: 1 for a progress bar, where there is one.
    """
    name = task_of(run.recipe).name
    return _BY_TASK[name](run, model, source, split, verbose)


def _of_classifier(run, model, source, split, verbose):
    found = evaluate(model, evaluation_dataset(source, run.recipe, split), verbose=verbose)
    return classifier_figures(found, run.class_names)


def classifier_figures(found: Evaluation, class_names: Sequence[str]) -> RunEvaluation:
    """What a classifier's answers are worth."""
    line = f"top-1 {found.accuracy:.2%}"
    if len(class_names) > 5:
        line += f", top-5 {found.top_accuracy(5):.2%}"
    rows = []
    for label, (name, share) in enumerate(zip(class_names, found.class_accuracy(), strict=True)):
        count = int((found.labels == label).sum())
        rows.append((name, str(count), f"{share:.1%}" if count else ""))
    head = ("class", "images", "found")
    return RunEvaluation(len(found.labels), line, found.accuracy, head, rows)


def _of_segmenter(run, model, source, split, verbose):
    found = evaluate_segmentation(model, source, run.recipe, split)
    line = f"mIoU {found.mean_iou:.2%}, {found.pixel_accuracy:.2%} of the pixels right"
    rows = [
        (name, _share(iou)) for name, iou in zip(run.class_names, found.class_iou(), strict=True)
    ]
    return RunEvaluation(len(found.images), line, found.mean_iou, ("class", "IoU"), rows)


def _of_detector(run, model, source, split, verbose):
    found = evaluate_detection(model, source, run.recipe, split)
    precision, agnostic = found.precision, found.class_agnostic()
    line = (
        f"AP {precision.ap:.2%}, AP50 {precision.ap50:.2%}, AP75 {precision.ap75:.2%}; blind to "
        f"classes AP {agnostic.ap:.2%}, AP50 {agnostic.ap50:.2%}"
    )
    figures = {"AP": precision.by_class, "AP50": precision.precision.mean(axis=0)}
    score = precision.ap
    if (masks := found.mask_precision) is not None:
        line = f"mask AP {masks.ap:.2%}, AP50 {masks.ap50:.2%}; boxes {line}"
        figures, score = {"mask AP": masks.by_class, **figures}, masks.ap
    rows = [
        (name, *map(_share, shares))
        for name, shares in zip(run.class_names, zip(*figures.values(), strict=True), strict=True)
    ]
    return RunEvaluation(len(found.objects), line, score, ("class", *figures), rows)


_BY_TASK = {
    "classification": _of_classifier,
    "segmentation": _of_segmenter,
    "detection": _of_detector,
    "instances": _of_detector,
}


def _share(value):
    return "" if math.isnan(value) else f"{value:.1%}"
