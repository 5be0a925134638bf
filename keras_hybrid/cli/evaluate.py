"""Measures a model on a data set.

    keras-hybrid evaluate runs/p                            on the run's own photos
    keras-hybrid evaluate runs/p other_photos --per_class   on other photos of the same classes
    keras-hybrid evaluate runs/p/model.tflite other_photos
    keras-hybrid evaluate --model=MobileViTS --weights=imagenet --data=imagenet2012

Photos are matched with classes by the names of their folders. The last form, published weights
under their published protocol, has every flag of recipes/evaluate.py. Exit status 1 where the
accuracy is under --least.
"""

import sys
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import share
from keras_hybrid.cli.command import DONE, FAILED, UsageError, parse
from keras_hybrid.cli.models import aligned
from keras_hybrid.cli.programs import run_program

PROGRAM = "recipes/evaluate.py"


def add_arguments(parser):
    parser.add_argument("model", help="a run's folder, a .keras or .tflite file")
    parser.add_argument("photos", nargs="?", help="folder of photos; the run's if not set")
    parser.add_argument("--split", help="train, validation or test; all of a folder of photos")
    parser.add_argument("--per_class", action="store_true", help="a row for each class")
    parser.add_argument("--least", type=share, help="accuracy, such as 0.9, that is expected")
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
        evaluation, names, where = _own(path, options)
    else:
        evaluation, names, where = _photos(options)
    print(f"{where}, {len(evaluation.labels)} images: top-1 {evaluation.accuracy:.2%}")
    if options.per_class:
        rows = [("class", "images", "found")]
        for label, (name, found) in enumerate(zip(names, evaluation.class_accuracy(), strict=True)):
            count = int((evaluation.labels == label).sum())
            rows.append((name, str(count), f"{found:.1%}" if count else ""))
        print(aligned(rows))
    if options.least is not None and evaluation.accuracy < options.least:
        print(f"less than --least={options.least}", file=sys.stderr)
        return FAILED
    return DONE


def _own(path, options):
    """The run on its own data."""
    from keras_hybrid.training.data.pipeline import evaluation_dataset
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.evaluation import evaluate
    from keras_hybrid.training.run.run_folder import load_run

    found = load_run(path)
    source = open_source(found.data, options.data_dir)
    if source.class_names != found.class_names:
        raise UsageError(
            f"{found.data} has other classes now than the run was trained on: "
            f"{', '.join(source.class_names[:5])}; the run's: {', '.join(found.class_names[:5])}"
        )
    split = options.split or source.evaluation_split
    evaluation = evaluate(found.model, evaluation_dataset(source, found.recipe, split))
    return evaluation, found.class_names, f"{options.model} on {source.name} {split}"


def _photos(options):
    """Any model on photos in folders of its classes' names."""
    import numpy as np

    from keras_hybrid.training.evaluation import Evaluation
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
    where = f"{options.model} on {options.photos} {split}"
    return Evaluation(labels, scores), classifier.labels, where
