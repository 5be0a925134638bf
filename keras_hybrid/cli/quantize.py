"""Makes an int8 model of a finished run, with a report: recipes/qat.py, with its flags.

keras-hybrid quantize runs/p                              writes runs/p_int8
keras-hybrid quantize runs/p --out=runs/cpu profile=int8_cpu epochs=0
"""

import json
import os
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.command import UsageError, suggestion
from keras_hybrid.cli.programs import recipes, run_program
from keras_hybrid.files import RUN_FILE

PROGRAM = "recipes/qat.py"


def run(arguments: list[str]) -> int:
    """Hands over to the program; the run may come first, without a flag."""
    helps = {"--help", "-h"} & set(arguments)
    if arguments and not helps and arguments[0][:1] != "-":
        folder = paths.finished_run(arguments[0])
        trained_on = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["data"]
        for argument in arguments[1:]:
            flag, _, value = argument.partition("=")
            if flag.lstrip("-") == "out":
                photos = Path(trained_on.removeprefix("folder:"))
                paths.run_folder(value, photos if photos.is_absolute() else Path(os.devnull))
        arguments = [f"--run={folder}", *arguments[1:]]
        if not any(argument.startswith("--out") for argument in arguments):
            arguments.insert(1, f"--out={folder}_int8")
    elif not helps and not any(argument.startswith("--run") for argument in arguments):
        raise UsageError("name the folder of a finished run, such as runs/p")
    names = recipes("qat")
    for argument in arguments:
        flag, _, value = argument.lstrip("-").partition("=")
        if flag == "recipe" and not value.endswith(".py") and value not in names:
            raise UsageError(
                f"there is no recipe {value!r} of int8{suggestion(value, names)}; there are "
                f"{', '.join(names)}"
            )
    if not helps:
        from keras_hybrid.cli.quiet import load_tensorflow

        load_tensorflow()
    return run_program(PROGRAM, arguments, "keras-hybrid quantize")
