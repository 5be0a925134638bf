"""The programs of `recipes/` and `tflite/`, run as subcommands with the same flags."""

import os
import re
import runpy
from pathlib import Path

from keras_hybrid.cli.command import DONE, FAILED, UsageError, suggestion


def programs_folder() -> Path:
    """The folder that holds `recipes` and `tflite`: in the package where it was installed, beside
    it in a clone.

    Raises:
        FileNotFoundError: where neither is there.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "programs", package.parent):
        if (folder / "recipes" / "train.py").is_file():
            return folder
    raise FileNotFoundError(
        "The folders `recipes` and `tflite` are missing from this installation: install it anew."
    )


def recipes(room: str = "") -> list[str]:
    """Names of the recipes, such as "finetune/mobilevit".

    Args:
        room: folder of recipes whose own names are wanted, such as "qat"; all of training if "".
    """
    folder = programs_folder() / "recipes"
    if room:
        return sorted(file.stem for file in (folder / room).glob("*.py"))
    files = [folder / "digits.py", *sorted(folder.glob("*/*.py"))]
    return [file.relative_to(folder).with_suffix("").as_posix() for file in files]


def run_program(name: str, arguments: list[str], command: str) -> int:
    """Runs a program's `main` with its flags; returns the exit status.

    Args:
        name: such as "tflite/benchmark.py".
        arguments: flags and what comes after them; `--out` stands for the program's `--output`.
        command: what the user typed, for messages.

    Raises:
        UsageError: for a wrong flag.
        ValueError: for what the program refuses.
    """
    from absl import app, flags

    before = set(flags.FLAGS)
    module = runpy.run_path(os.fspath(programs_folder() / name), run_name="program")
    own = [flag for flag in flags.FLAGS if flag not in before]
    try:
        if {"--help", "-h", "--helpfull"} & set(arguments):
            print(_help(module["__doc__"], name, command, own))
            return DONE
        if "output" in own and "out" not in own:
            arguments = [_renamed(argument) for argument in arguments]
        try:
            rest = flags.FLAGS([name, *arguments])
            return module["main"](rest) or DONE
        except (flags.Error, app.UsageError) as error:
            text = str(error).removeprefix("FATAL Flags parsing error: ").strip()
            if isinstance(error, flags.UnrecognizedFlagError):
                known = [f"--{flag}" for flag in own]
                near = suggestion(f"--{error.flagname}", known)
                text = f"there is no flag --{error.flagname}{near}"
            if missing := re.findall(r"Flag (--\w+) must have a value other than None", text):
                text = f"{' and '.join(missing)} must be given; `{command} --help` says what for"
            raise UsageError(text) from error
        except SystemExit as error:
            if isinstance(error.code, str):  # "train.py: what is wrong"
                raise UsageError(error.code.partition(".py: ")[2] or error.code) from error
            return FAILED if error.code is True else error.code or DONE
    finally:
        for flag in own:  # so that the next program may define them
            if flag in flags.FLAGS:
                delattr(flags.FLAGS, flag)


def _renamed(argument):
    for dashes in ("--", "-"):
        if argument == f"{dashes}out" or argument.startswith(f"{dashes}out="):
            return f"--output{argument.removeprefix(f'{dashes}out')}"
    return argument


def _help(text, name, command, own):
    from absl import flags

    text = text.replace(f"python {name}", command).strip()
    lines = [text, "", "flags:"]
    for flag in own:
        found = flags.FLAGS[flag]
        if flag in ("help", "helpfull", "helpshort", "helpxml"):
            continue
        shown = "out" if flag == "output" else flag
        default = "" if found.default in (None, [], "", False) else f" [{found.default}]"
        lines.append(f"  --{shown}: {found.help}{default}")
    return "\n".join(lines)
