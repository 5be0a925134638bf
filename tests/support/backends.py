"""One process for each backend of Keras, for all tests of it: importing one takes seconds."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import traceback

ENVIRONMENT = {
    # What is tested is what is computed, not how fast: XLA's optimiser would take minutes.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    # oneDNN's half-precision kernels are stopped by virtual machines that announce AMX in vain.
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Backends:
    """Runs programs, one after the other, in the process of a backend."""

    def __init__(self):
        self._processes = {}

    def run(self, backend: str, program, *arguments) -> str:
        """What a program prints; AssertionError with its traceback where it fails.

        Programs of a backend share Keras: they put back what they set.
        """
        process = self._processes.get(backend)
        if process is None or process.poll() is not None:
            process = self._processes[backend] = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    **ENVIRONMENT,
                    "KERAS_BACKEND": backend,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        process.stdin.write(json.dumps([str(program), *map(str, arguments)]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"the process of {backend} died in {program}; its error is above"
        printed, error = json.loads(answer)
        assert error is None, error[-4000:]
        return printed

    def close(self):
        """Ends all processes."""
        for process in self._processes.values():
            process.stdin.close()
            process.wait(timeout=60)


def _serve():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        sys.argv = json.loads(line)
        sys.path.insert(0, os.path.dirname(sys.argv[0]))
        printed, error = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(printed):
                runpy.run_path(sys.argv[0], run_name="__main__")
        except BaseException:
            error = traceback.format_exc()
        print(json.dumps([printed.getvalue(), error]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
