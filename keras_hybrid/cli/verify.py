"""Compares a .tflite with the Keras model it was made from, image by image.

    keras-hybrid verify runs/p/model.tflite                  with the run's model and photos
    keras-hybrid verify model.tflite --against=model.keras --data=images

Exit status 1 when fewer than --agreement of the images get the same class, or the scores differ by
more than --tolerance.
"""

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import real, share, whole
from keras_hybrid.cli.command import DONE, FAILED, UsageError
from keras_hybrid.files import MODEL_FILE


def add_arguments(parser):
    parser.add_argument("file", help="the .tflite")
    parser.add_argument(
        "--against", help="a .keras file, a run's folder or a network's name; the run beside it"
    )
    parser.add_argument("--weights", help="of a network's name: its weights")
    parser.add_argument("--data", help="folder of images, .npy or .npz; noise if not set")
    parser.add_argument("--limit", type=whole(1), default=200, help="at most so many images")
    parser.add_argument("--raw", action="store_true", help="the data are normalised already")
    parser.add_argument("--agreement", type=share, default=1.0, help="least share of same classes")
    parser.add_argument(
        "--tolerance", type=real(0), default=1e-4, help="largest relative difference"
    )


def run(options) -> int:
    """Prints the comparison."""
    path = paths.existing_file(options.file, "a .tflite file")
    against = options.against
    if against is None:
        if not paths.is_run(path.parent):
            raise UsageError("--against names the Keras model that the file was made from")
        against = str(path.parent)
    if paths.Path(against).is_dir() or "/" in against or "." in against:
        found = paths.existing(against, "a .keras file, a run's folder or a network's name")
        found = paths.finished_run(against) / MODEL_FILE if found.is_dir() else found
        against = str(paths.model_file(found))
    if options.data:
        paths.existing(options.data, "a folder of images, .npy or .npz")

    from keras_hybrid.cli.quiet import prepare

    prepare()
    from keras_hybrid.workflows.conversion import verify

    result = verify(
        path, against, options.weights, data=options.data, limit=options.limit, raw=options.raw
    )
    print(result.text())
    return DONE if result.passes(options.agreement, options.tolerance) else FAILED
