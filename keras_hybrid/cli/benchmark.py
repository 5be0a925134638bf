"""Times .tflite files on this machine and on phones: tflite/benchmark.py, with its flags."""

from keras_hybrid.cli.programs import run_program

PROGRAM = "tflite/benchmark.py"


def run(arguments: list[str]) -> int:
    """Hands over to the program."""
    return run_program(PROGRAM, arguments, "keras-hybrid benchmark")
