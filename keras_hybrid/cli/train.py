"""Trains a network on a folder of photos, and needs nothing else:

    keras-hybrid train photos --out=runs/p

photos holds one folder of pictures for each class, or such folders in train, validation and test.
Recipe, network, resolution, batch, epochs and warm-up are fitted to the set and printed, each with
its reason; training starts from published weights where they can be had. The run's folder gets
model.keras, labels.txt, report.md and report.html. The same command goes on with an interrupted
run.

By a recipe of recipes/, on any data set, with every flag of recipes/train.py:

    keras-hybrid train digits --recipe=digits --variant=MobileViTXXS --out=runs/a epochs=3
"""

import sys
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import positive, whole
from keras_hybrid.cli.command import DONE, UsageError, parse, suggestion
from keras_hybrid.cli.programs import recipes, run_program

PROGRAM = "recipes/train.py"
FOLDER_PREFIX = "folder:"


def add_arguments(parser):
    parser.add_argument("photos", help="folder of photos, with one folder for each class")
    parser.add_argument("--out", required=True, help="folder of the run, such as runs/p")
    parser.add_argument("--model", help="a network of `keras-hybrid models`")
    parser.add_argument(
        "--weights",
        help="what to start from: a tag of `keras-hybrid weights`, a file, a run's folder, or "
        "none; published weights where they can be had if not set",
    )
    parser.add_argument("--minutes", type=positive, help="be done in so many")
    parser.add_argument(
        "--resolution", type=whole(64, 1024), help="height and width of the images, in pixels"
    )
    parser.add_argument("--batch_size", type=whole(1), help="images of a step")
    parser.add_argument("--epochs", type=whole(1), help="at most so many")
    parser.add_argument("--learning_rate", type=positive, help="its peak")
    parser.add_argument(
        "--seed", type=whole(0, 2**31), default=0, help="of weights, order and augmentation"
    )
    parser.add_argument("--data_dir", help="where it is kept which files are images")


def run(arguments: list[str]) -> int:
    """Trains on photos, or hands over to recipes/train.py where there is a --recipe."""
    if any(argument.partition("=")[0].lstrip("-") == "recipe" for argument in arguments):
        return _by_recipe(arguments)
    options = parse("train", sys.modules[__name__], arguments)
    name = options.photos.removeprefix(FOLDER_PREFIX)
    if name in ("digits", "imagenet2012") and not Path(name).exists():
        raise UsageError(
            f"{name} is a data set and no folder of photos: say --recipe=, one of "
            f"{', '.join(recipes())}"
        )
    folder = paths.existing(name, "a folder of photos")
    if not folder.is_dir():
        raise UsageError(f"a folder of photos is expected. Received: {name}, which is a file")
    paths.run_folder(options.out, photos=folder)
    if options.model is not None:
        _check_model(options.model)
    if options.weights not in (None, "none") and _is_path(options.weights):
        found = paths.existing(
            options.weights, "a tag of published weights, a file or a run's folder"
        )
        paths.finished_run(options.weights) if found.is_dir() else paths.model_file(found)

    from keras_hybrid.cli.quiet import prepare

    prepare()
    from keras_hybrid.workflows.photos import Wishes, train_photos
    from keras_hybrid.workflows.photos_set import open_photos
    from keras_hybrid.workflows.reports.run_report import write_run_report

    photos = open_photos(folder, options.data_dir)
    wishes = Wishes(
        options.model,
        options.resolution,
        options.batch_size,
        options.epochs,
        options.learning_rate,
        options.seed,
    )
    trained = train_photos(
        photos, options.out, wishes=wishes, weights=options.weights, minutes=options.minutes
    )
    report = write_run_report(trained)
    print(f"{options.out}: {report.headline}")
    print(f"report: {report.path}")
    print(f"next:   keras-hybrid predict {options.out} PICTURE...")
    print(f"        keras-hybrid convert {options.out}")
    return DONE


def _check_model(name):
    from keras_hybrid.cli.quiet import load_tensorflow

    load_tensorflow()
    from keras_hybrid.models.catalogue import builder_family

    builder_family(name)


def _is_path(weights):
    return "/" in weights or "." in weights or Path(weights).is_dir()


def _by_recipe(arguments):
    """The arguments of recipes/train.py: the data set may come first, without a flag."""
    values = dict(
        argument.lstrip("-").partition("=")[::2] for argument in arguments if argument[:1] == "-"
    )
    known = recipes()
    recipe = values.get("recipe", "")
    if not recipe.endswith(".py") and recipe not in known:
        raise UsageError(
            f"there is no recipe {recipe!r}{suggestion(recipe, known)}; "
            f"there are {', '.join(known)}"
        )
    if "data" not in values and arguments and arguments[0][:1] != "-" and "=" not in arguments[0]:
        data, *arguments = arguments
        if Path(data).is_dir():
            data = f"{FOLDER_PREFIX}{data}"
        arguments = [f"--data={data}", *arguments]
    elif (data := values.get("data")) and Path(data).is_dir():
        arguments = [*arguments, f"--data={FOLDER_PREFIX}{data}"]

    from keras_hybrid.cli.quiet import load_tensorflow

    if "--help" not in arguments:
        load_tensorflow()
    return run_program(PROGRAM, arguments, "keras-hybrid train")
