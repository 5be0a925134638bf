"""Programs of the project as a user runs them, at a fork's cost instead of an import's.

TensorFlow, Keras and the package take some seconds to import. A server process does that once for
each worker of the tests; every call is a fork of it, and so a process of its own, with its own
flags, environment, folder and exit status, that may be killed like any other. What a fork cannot
tell (that a program imports what it needs, in an order that works) is shown by one true launch of
each program: `fresh=True`.
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Programs:
    """Runs programs: `programs("recipes/train.py", "--help").stdout`."""

    def __init__(self):
        self._server = None

    def __call__(
        self, program, *arguments, before="", cwd=None, env=None, timeout=600, fresh=False
    ) -> subprocess.CompletedProcess:
        """Runs a program to its end.

        Args:
            program: its path, in the repository or absolute.
            *arguments: as of the command line.
            before: code that the process runs first, to put something small in place of what is
                large; it can import what is in tests/support.
            cwd: folder to run in; that of the tests if not set.
            env: environment variables to add.
            timeout: in seconds; what takes longer is killed.
            fresh: whether the process is launched, not forked.

        Returns: what `subprocess.run(..., capture_output=True, text=True)` does.
        """
        command = [str(ROOT / program), *map(str, arguments)]
        # Of the environment, what the test has changed by now counts, too.
        env = _environment() | {name: str(value) for name, value in (env or {}).items()}
        if fresh:
            return self._launch(command, before, cwd, env, timeout)
        return self._fork(command, before, cwd, env, timeout)

    def _launch(self, command, before, cwd, env, timeout):
        if before:
            run = f"import runpy, sys\n{before}\nsys.argv = sys.argv[1:]\n"
            command = ["-c", run + "runpy.run_path(sys.argv[0], run_name='__main__')", *command]
        return subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=env,
            timeout=timeout,
        )

    def _fork(self, command, before, cwd, env, timeout):
        backend = env.get("KERAS_BACKEND", "tensorflow")
        if backend != "tensorflow":
            raise ValueError(f"Keras is imported already: use fresh=True. Received: {backend=}")
        if self._server is None or self._server.poll() is not None:
            self._server = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=env,
            )
        with tempfile.TemporaryDirectory() as folder:
            outputs = [str(Path(folder, name)) for name in ("stdout", "stderr")]
            request = {
                "command": command,
                "before": before,
                "cwd": str(cwd or os.getcwd()),
                "env": env,
                "outputs": outputs,
                "timeout": timeout,
            }
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            answer = self._server.stdout.readline()
            assert answer, "the server of programs died; its error is above"
            stdout, stderr = (Path(path).read_text() for path in outputs)
        status = json.loads(answer)
        if status is None:
            raise subprocess.TimeoutExpired(command, timeout, stdout, stderr)
        return subprocess.CompletedProcess(command, status, stdout, stderr)

    def close(self):
        """Ends the server."""
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait(timeout=30)


def _environment():
    paths = [str(ROOT / "tests" / "support"), *filter(None, sys.path)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def _serve():
    """Answers requests with exit statuses; returns in a fork only, which is the program."""
    import absl.app  # noqa: F401
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import keras_hybrid.export.convert
    import keras_hybrid.export.verify
    import keras_hybrid.training.run.run  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            return request
        timed_out = []

        def kill(*_, child=child, timed_out=timed_out):
            timed_out.append(child)
            os.kill(child, signal.SIGKILL)

        signal.signal(signal.SIGALRM, kill)
        signal.setitimer(signal.ITIMER_REAL, request["timeout"])
        _, status = os.waitpid(child, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        status = None if timed_out else os.waitstatus_to_exitcode(status)
        print(json.dumps(status), file=answers, flush=True)
    sys.exit()


def _become(request):
    """Makes this process what the request asks for; the program is then to be run."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for descriptor, path in enumerate(request["outputs"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["command"]
    paths = [str(Path(sys.argv[0]).parent), *request["env"]["PYTHONPATH"].split(os.pathsep)]
    sys.path[:] = dict.fromkeys(paths)
    exec(request["before"], {"__name__": "before"})


def _run():
    """Runs the program, and ends without taking the server's imports apart, which takes a second.

    Returns: the exit status, as Python makes it of how the program ended.
    """
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _become(_serve())
    status = _run()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
