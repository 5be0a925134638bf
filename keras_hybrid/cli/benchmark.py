"""Times .tflite files on this machine and on phones: tflite/benchmark.py, with its flags."""

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.command import UsageError
from keras_hybrid.cli.programs import run_program

PROGRAM = "tflite/benchmark.py"
FILES = {
    "compare": "rows of an earlier run, rows.jsonl,",
    "metrics": "a .json file of metrics",
    "benchmark_binary": "the program benchmark_model",
    "apk": "the benchmark's .apk",
}


def run(arguments: list[str]) -> int:
    """Hands over to the program; what names a file is looked at first."""
    if not {"--help", "-h", "--helpfull"} & set(arguments):
        for argument in arguments:
            flag, _, value = argument.lstrip("-").partition("=")
            if argument[:1] == "-" and flag in FILES and value:
                paths.existing_file(value, FILES[flag])
            elif argument[:1] == "-" and flag == "threads":
                _check_threads(value)
            elif argument.endswith(".tflite") and argument[:1] != "-":
                paths.existing_file(argument, "a .tflite file")
    return run_program(PROGRAM, arguments, "keras-hybrid benchmark")


def _check_threads(text):
    numbers = text.split(",")
    if not all(number.strip().isdigit() and int(number) > 0 for number in numbers):
        raise UsageError(
            f"--threads takes numbers of 1 or more, by comma, such as 1,4. Received: {text}"
        )
