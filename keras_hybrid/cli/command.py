"""`keras-hybrid`: subcommands, errors in one sentence, and the exit status.

Exit status: 0 done; 1 a measured failure (a file that disagrees, a model that is slower, a run
that diverged); 2 wrong usage; 3 incomplete (interrupted, or a combination without a measurement).
"""

import argparse
import difflib
import importlib
import os
import sys
import warnings

from keras_hybrid.version import __version__

DONE, FAILED, WRONG_USAGE, INCOMPLETE = range(4)
# In the order in which a newcomer meets them.
COMMANDS = {
    "train": "train a network on a folder of photos, or by a recipe",
    "predict": "say what is on pictures",
    "evaluate": "measure a model on a data set",
    "convert": "make a .tflite for a phone",
    "verify": "compare a .tflite with the Keras model it was made from",
    "check": "say what is in a .tflite and which engines take it",
    "quantize": "make an int8 model of a finished run, with a report",
    "benchmark": "time .tflite files on this machine and on Android phones",
    "serve": "try and time .tflite files in a browser, on any phone",
    "weights": "list, fetch and convert published weights",
    "models": "list the networks",
    "data": "look at a folder of photos, or another data set",
}
EXTRA_OF = {
    "tensorflow_datasets": "train",
    "sklearn": "train",
    "tqdm": "train",
    "etils": "train",
    "keras_cv": "detection",
    "pycocotools": "detection",
    "matplotlib": "train",
    "PIL": "train",
    "ai_edge_litert": "tflite",
    "tensorflow_model_optimization": "tflite",
    "tf_keras": "tflite",
    "torch": "torch",
    "jax": "jax",
    "transformers": "peers",
    "trustme": "serve",
    "segno": "serve",
}


class UsageError(ValueError):
    """The command line is wrong: the message says how it goes."""


class Parser(argparse.ArgumentParser):
    """Raises a `UsageError` in place of printing its usage and ending the process.

    Attributes:
        flags: that it knows, such as "--out".
    """

    def __init__(self, **options):
        self.flags = []
        super().__init__(**options)

    def add_argument(self, *names, **options):
        self.flags += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **options)

    def error(self, message):
        raise UsageError(message)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line; returns the exit status.

    Args:
        arguments: after the program's name; None for the process'.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = ""
    try:
        if arguments[:1] == ["help"] and arguments[1:]:
            arguments = [*arguments[1:], "--help"]
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(overview())
            return DONE if arguments else WRONG_USAGE
        if arguments[0] == "--version":
            print(f"keras-hybrid {__version__}")
            return DONE
        name, *rest = arguments
        if name not in COMMANDS:
            raise UsageError(
                f"there is no `keras-hybrid {name}`{suggestion(name, COMMANDS)}; "
                f"there are {', '.join(COMMANDS)}"
            )
        module = importlib.import_module(f"keras_hybrid.cli.{name}")
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            # A module with a PROGRAM has flags of its own.
            return module.run(rest if hasattr(module, "PROGRAM") else parse(name, module, rest))
    except SystemExit as error:  # of argparse's --help
        return error.code or DONE
    except KeyboardInterrupt:
        _complain(name, "interrupted; the same command goes on where it was")
        return INCOMPLETE
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except Exception as error:
        status = status_of(error)
        if status is None or os.environ.get("KERAS_HYBRID_TRACEBACK"):
            raise
        _complain(name, sentence(error))
        return status


def parse(name: str, module, arguments: list[str]) -> argparse.Namespace:
    """The values of a subcommand's arguments.

    Raises:
        UsageError: it names what is wrong, and the nearest flag for an unknown one.
    """
    parser = Parser(
        prog=f"keras-hybrid {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise UsageError(
            f"what is {unknown[0]!r}?{suggestion(flag, parser.flags)} "
            f"`keras-hybrid {name} --help` lists what there is"
        )
    return values


def status_of(error: Exception) -> int | None:
    """The exit status for an error that is no fault of this package; None for one that is."""
    if type(error).__name__ in ("TrainingDivergedError", "RunFailedError"):
        return FAILED
    if type(error).__name__ in ("AdbError", "ProcessLostError"):
        return INCOMPLETE
    if isinstance(error, ModuleNotFoundError):
        return WRONG_USAGE if (error.name or "").partition(".")[0] in EXTRA_OF else None
    return WRONG_USAGE if isinstance(error, (ValueError, OSError, ImportError)) else None


def sentence(error: Exception) -> str:
    """What the user reads of an error."""
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        return (
            f"the package `{missing}` is missing: pip install 'keras-hybrid[{EXTRA_OF[missing]}]'"
        )
    if isinstance(error, OSError) and error.strerror:
        at = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{at}"
    return str(error)


def suggestion(text: str, known) -> str:
    """ " (did you mean ...?)" with the nearest of the known words, or nothing."""
    near = difflib.get_close_matches(str(text), list(known), n=1, cutoff=0.5)
    return f" (did you mean `{near[0]}`?)" if near else ""


def overview() -> str:
    """What `keras-hybrid --help` prints."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"""\
Small vision networks for phones, from photos to a .tflite.

  keras-hybrid train photos --out=runs/p      a folder with one folder of photos for each class
  keras-hybrid predict runs/p picture.jpg
  keras-hybrid convert runs/p                 runs/p/model.tflite, with its labels

{rows}

`keras-hybrid COMMAND --help` explains one. Exit status: 0 done, 1 a measured failure,
2 wrong usage, 3 incomplete. KERAS_HYBRID_TRACEBACK=1 shows where an error came from."""


def _complain(name, text):
    program = f"keras-hybrid {name}" if name in COMMANDS else "keras-hybrid"
    print(f"{program}: {text}", file=sys.stderr)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    """A warning as a sentence, without the line of code that gave it."""
    print(f"warning: {message}", file=file or sys.stderr)
