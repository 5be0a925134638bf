"""Measures a model on a data set.

    keras-hybrid evaluate runs/p                            on the run's own photos
    keras-hybrid evaluate runs/p other_photos --per_class   on other photos of the same classes
    keras-hybrid evaluate runs/p/model.tflite other_photos
    keras-hybrid evaluate --model=MobileViTS --weights=imagenet --data=imagenet2012

Photos are matched with classes by the names of their folders. The last form, published weights
under their published protocol, has every flag of recipes/evaluate.py. A run of segmentation gives
mIoU, one of detection COCO's average precision. Exit status 1 where the figure is under --least.
"""

import json
import sys
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import share
from keras_hybrid.cli.command import DONE, FAILED, UsageError, parse
from keras_hybrid.cli.models import aligned
from keras_hybrid.cli.programs import run_program
from keras_hybrid.files import RUN_FILE

PROGRAM = "recipes/evaluate.py"


def add_arguments(parser):
    parser.add_argument("model", help="a run's folder, a .keras or .tflite file")
    parser.add_argument("photos", nargs="?", help="folder of photos; the run's if not set")
    parser.add_argument("--split", help="train, validation or test; all of a folder of photos")
    parser.add_argument("--per_class", action="store_true", help="a row for each class")
    parser.add_argument(
        "--least", type=share, help="accuracy, mIoU or AP that is expected, such as 0.9"
    )
    parser.add_argument("--data_dir", help="TFDS' folder, where verdicts on files are kept, too")


def run(arguments: list[str]) -> int:
    """Evaluates, or hands over to recipes/evaluate.py where its flags are used."""
    flags = {
        argument.partition("=")[0].lstrip("-") for argument in arguments if argument[:1] == "-"
    }
    if flags & {"run", "model", "weights"}:
        from keras_hybrid.cli.quiet import load_tensorflow

        load_tensorflow()
        return run_program(PROGRAM, arguments, "keras-hybrid evaluate")
    options = parse("evaluate", sys.modules[__name__], arguments)
    path = paths.existing(options.model, "a run's folder, a .keras or a .tflite file")
    if path.is_dir():
        paths.finished_run(options.model)
    elif path.suffix not in (".keras", ".tflite"):
        raise UsageError(
            f"a run's folder, a .keras or a .tflite file is expected. Received: {options.model}"
        )
    else:
        paths.model_file(path)
    if options.photos:
        paths.existing(options.photos, "a folder of photos")
    elif not path.is_dir():
        raise UsageError("name a folder of photos to evaluate on, after the model")

    from keras_hybrid.cli.quiet import prepare

    prepare()
    if path.is_dir() and not options.photos:
        found, where = _own(path, options)
    else:
        task = _task(path)
        if task != "classification":
            raise UsageError(
                "photos in folders of their classes are for a classifier; another task's run is "
                f"evaluated on its own data, or with --run and --data. Received: {task}, "
                f"{options.model}"
            )
        found, where = _photos(options)
    print(f"{where}, {found.images} images: {found.line}")
    if options.per_class:
        print(aligned([found.head, *found.rows]))
    if options.least is not None and found.score < options.least:
        print(f"less than --least={options.least}", file=sys.stderr)
        return FAILED
    return DONE


def _task(path):
    """The task of a run, or of the run that a file is of."""
    folder = path if path.is_dir() else path.parent
    if not paths.is_run(folder):
        return "classification"
    return json.loads((folder / RUN_FILE).read_text(encoding="utf-8")).get("task", "classification")


def _own(path, options):
    """The run on its own data."""
    from keras_hybrid.training.run.run_folder import load_run
    from keras_hybrid.workflows.answers.run_evaluation import evaluate_run, open_run_source

    run = load_run(path)
    try:
        source = open_run_source(run, data_dir=options.data_dir)
    except ValueError as error:
        raise UsageError(str(error)) from error
    split = options.split or source.evaluation_split
    found = evaluate_run(run, run.model, source, split)
    return found, f"{options.model} on {source.name} {split}"


def _photos(options):
    """Any model on photos in folders of its classes' names."""
    import numpy as np

    from keras_hybrid.training.evaluation import Evaluation
    from keras_hybrid.workflows.answers.run_evaluation import classifier_figures
    from keras_hybrid.workflows.photos_model import open_classifier
    from keras_hybrid.workflows.photos_set import open_photos

    classifier = open_classifier(options.model)
    # Without a split named, all of them count, and one photo of a class is enough.
    photos = open_photos(Path(options.photos), options.data_dir, in_splits=bool(options.split))
    names = photos.source.class_names
    if strangers := [name for name in names if name not in classifier.labels]:
        raise UsageError(
            f"the model has no class {', '.join(strangers[:5])}; it has "
            f"{', '.join(classifier.labels[:8])}"
        )
    split = options.split or ("all" if "all" in photos.files else photos.source.evaluation_split)
    if split not in photos.files:
        raise UsageError(
            f"{options.photos} has the splits {', '.join(photos.files)}. Received: --split={split}"
        )
    files = photos.files[split]
    labels = np.array([classifier.labels.index(names[label]) for _, label in files])
    scores = np.concatenate(
        [
            classifier.predict([file for file, _ in files[start : start + 32]])
            for start in range(0, len(files), 32)
        ]
    )
    found = Evaluation(labels, scores)
    return (
        classifier_figures(found, classifier.labels),
        f"{options.model} on {options.photos} {split}",
    )
