"""Makes a .tflite for a phone.

    keras-hybrid convert runs/p                         runs/p/model.tflite, with its labels
    keras-hybrid convert runs/p --precision=float16     half the download
    keras-hybrid convert runs/p --precision=int8_cpu    calibrated on the run's own photos
    keras-hybrid convert model.keras --out=model.tflite
    keras-hybrid convert MobileViTXXS --weights=imagenet --out=xxs.tflite

Of a run, the file takes RGB images of 0 to 255, as cameras give them, and holds the run's labels.
Of a detector's run it gives the boxes themselves, as MediaPipe's ObjectDetector reads them;
--postprocess=raw or decoded leaves their choice to the app, and to a GPU the rest.
Of a Mask R-CNN's run it gives boxes and masks; --parts writes three files of plain operators into
a folder, for GPUs, NPUs and --precision=int8 of the backbone, and what lies between them is the
app's (docs/phone.md). A run on images of any size needs --input_size.
"""

import dataclasses
import json
import warnings
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import whole
from keras_hybrid.cli.command import DONE, UsageError
from keras_hybrid.files import MODEL_FILE, RUN_FILE, write_text

TARGETS = ("cpu", "gpu", "npu")
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_cpu", "int16x8")
CALIBRATED = ("int8", "int8_cpu", "int16x8")
TYPES = ("float32", "uint8", "int8")
POSTPROCESSES = ("raw", "decoded", "tflite")
LABELS_FILE, PARTS_FOLDER = "labels.txt", "parts"


def add_arguments(parser):
    parser.add_argument("model", help="a run's folder, a .keras file or a network's name")
    parser.add_argument("--out", help=".tflite to write; of a run, model.tflite in its folder")
    parser.add_argument("--weights", help="of a network's name: a tag such as imagenet, or a file")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--target", choices=TARGETS, help="engine it is for; npu of int8, else cpu")
    parser.add_argument("--data", help="images to calibrate integers with: a folder, .npy or .npz")
    parser.add_argument("--limit", type=whole(1), default=200, help="at most so many of them")
    parser.add_argument("--raw", action="store_true", help="they are normalised already")
    parser.add_argument("--keep_float", default="", help="layers to leave in float, by comma")
    parser.add_argument("--input_size", type=whole(32, 4096), help="height and width, in pixels")
    parser.add_argument("--input", choices=TYPES, default="float32", help="type of the input")
    parser.add_argument("--scores", choices=TYPES, default="float32", help="type of the outputs")
    parser.add_argument(
        "--preprocessing",
        choices=("inside", "outside"),
        help="whether the file normalises its images; inside of a run, else outside",
    )
    parser.add_argument("--head", choices=("classes", "features", "pyramid"), default="classes")
    parser.add_argument("--labels", help="text file with one class name a line; the run's own")
    parser.add_argument(
        "--top_k", type=whole(1), help="the best k scores and classes, not all scores"
    )
    parser.add_argument(
        "--postprocess",
        choices=POSTPROCESSES,
        help="of a detector: what the file gives; tflite, the boxes themselves, of a run, else raw",
    )
    parser.add_argument(
        "--parts", action="store_true", help="of a Mask R-CNN: three files, --out is their folder"
    )
    parser.add_argument("--author", default="", help="for the file's metadata")
    parser.add_argument("--licence", default="", help="for the file's metadata")
    parser.add_argument("--description", default="", help="for the file's metadata")


def run(options) -> int:
    """Converts, and prints what was made."""
    folder, name, labels = _model(options)
    own = PARTS_FOLDER if options.parts else _file_name(options.precision)
    out = options.out or (folder / own if folder else None)
    if out is None:
        raise UsageError("--out names the .tflite to write, or with --parts their folder")
    if not options.parts:
        out = paths.output(str(out), ".tflite")
    if options.data:
        paths.existing(options.data, "a folder of images, .npy or .npz")
    inside = options.preprocessing or ("inside" if folder else "outside")

    from keras_hybrid.cli.quiet import prepare

    prepare()
    from keras_hybrid.export.metadata import About
    from keras_hybrid.workflows.conversion import convert, convert_parts, open_model

    data = options.data
    if data is None and folder and options.precision in CALIBRATED:
        data = _photos_of(folder)
    model = open_model(name, options.weights, head=options.head, input_size=options.input_size)
    model = _sized(model, folder, options.input_size)
    _check_instances(model, options)
    if options.parts:
        print(
            convert_parts(
                model,
                out,
                options.precision,
                data=data,
                limit=options.limit,
                raw=options.raw,
                preprocessing=_preprocessing(folder) if inside == "inside" else False,
                input=options.input,
                labels=labels,
            )
        )
        return DONE
    made = convert(
        model,
        out,
        options.precision,
        target=options.target,
        data=data,
        limit=options.limit,
        raw=options.raw,
        keep_float=tuple(filter(None, options.keep_float.split(","))),
        preprocessing=_preprocessing(folder) if inside == "inside" else False,
        input=options.input,
        scores=options.scores,
        input_size=options.input_size,
        labels=labels if options.head == "classes" else None,
        top_k=options.top_k,
        postprocess=_postprocess(model, options.postprocess, of_run=folder is not None),
        about=About(
            name=model.name,
            description=options.description,
            author=options.author,
            licence=options.licence,
            preset=options.weights or "",
        ),
    )
    print(made.text())
    if labels and options.head == "classes":
        names = Path(labels).read_text(encoding="utf-8-sig").splitlines()
        shown = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
        print(f"labels: {len(names)}: {shown}")
    return DONE


def _postprocess(model, given, of_run):
    """What a detector's file gives; "raw" for other networks, whose files have no choice."""
    from keras_hybrid.tasks.detection.file_output import is_detector

    if is_detector(model):
        return given or ("tflite" if of_run else "raw")
    if given is not None:
        raise UsageError(
            f"--postprocess is for a detector. Received: --postprocess={given}, {model.name}"
        )
    return "raw"


def _check_instances(model, options):
    """Raises a UsageError where a Mask R-CNN is asked for what it has not, or another network."""
    from keras_hybrid.tasks.instances.parts import is_mask_rcnn

    if options.parts and not is_mask_rcnn(model):
        raise UsageError(f"--parts is for a Mask R-CNN. Received: {model.name}")
    if is_mask_rcnn(model) and options.precision in CALIBRATED and not options.parts:
        raise UsageError(
            "a Mask R-CNN in one file is float; with --parts its backbone and pyramid may be "
            f"integers. Received: --precision={options.precision}"
        )


def _sized(model, folder, size):
    """A run's Mask R-CNN for images of one size, where it is for any."""
    from keras_hybrid.tasks.instances.parts import is_mask_rcnn

    if folder is None or not is_mask_rcnn(model) or None not in model.input_shape[1:3]:
        return model
    if size is None:
        raise UsageError(
            "the run's network takes images of any size, and a file those of one: name it, "
            "such as --input_size=512"
        )
    from keras_hybrid.training.run.run import copy_weights
    from keras_hybrid.training.run.run_folder import load_recipe_of_run
    from keras_hybrid.training.tasks.of_recipe import task_of

    recipe = load_recipe_of_run(folder)
    recipe = dataclasses.replace(recipe, fit="square", resolution=size, shorter_side=None)
    task = task_of(recipe)
    network = task.new_network(recipe, task.classes_of(model))
    copy_weights(model, network)
    return network


def _preprocessing(folder):
    """That of a run's training; the model's own without a run."""
    from keras_hybrid.weights.preprocessing import preprocessing_of

    if folder is None:
        return True
    recipe = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["recipe"]
    return preprocessing_of(recipe["model"])


def _model(options):
    """The run's folder or None, what `open_model` takes, and the file of labels or None."""
    text = options.model
    path = Path(text).expanduser()
    if not path.exists() and path.suffix == "" and "/" not in text:
        given = paths.existing_file(options.labels, "a file of labels") if options.labels else None
        return None, text, given  # a network's name, or a mistyped one: the catalogue tells
    path = paths.existing(text, "a run's folder, a .keras file or a network's name")
    if path.is_file():
        if path.suffix != ".keras":
            raise UsageError(f"a run's folder or a .keras file is expected. Received: {text}")
        paths.model_file(path)
        beside = path.parent if paths.is_run(path.parent) else None
        labels = check_labels(options.labels, beside)
        return None, str(path), labels
    folder = paths.finished_run(text)
    return folder, str(folder / MODEL_FILE), check_labels(options.labels, folder)


def _file_name(precision):
    return "model.tflite" if precision == "float32" else f"model_{precision}.tflite"


def _photos_of(folder):
    """The folder of photos that a run was trained on."""
    name = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["data"]
    photos = Path(name.removeprefix("folder:"))
    if not name.startswith("folder:") or not photos.is_dir():
        raise UsageError(
            "integers are calibrated with images: name a folder of them with --data. "
            f"Received: a run on {name}"
        )
    return photos


def run_labels(folder: Path) -> list[str]:
    """The classes that a run was trained on, in the order of its outputs."""
    return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["class_names"]


def check_labels(given: str | None, folder: Path | None) -> Path | None:
    """The file of labels to use: the one that was given, or else the run's own.

    Where both are there and differ, a warning says so: a wrong order names every picture wrong.

    Args:
        given: on the command line.
        folder: of the run; None without one.
    """
    path = paths.existing_file(given, "a file of labels") if given else None
    if folder is None:
        return path
    own = run_labels(folder)
    if path is None:
        path = folder / LABELS_FILE
        if not path.is_file():  # a run of a recipe
            write_text(path, "".join(f"{name}\n" for name in own))
        return path
    read = path.read_text(encoding="utf-8-sig").splitlines()
    if read != own:
        first = next(
            (i for i, pair in enumerate(zip(read, own, strict=False)) if len({*pair}) > 1), 0
        )
        warnings.warn(
            f"The labels of {given} are not those that the run was trained on: line {first + 1} is "
            f"{(read[first : first + 1] or ['missing'])[0]!r}, the run's class {own[first]!r}. The "
            "file gets those of --labels; leave the flag out for the run's.",
            stacklevel=2,
        )
    return path
