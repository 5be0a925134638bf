"""Whether MediaPipe Tasks, the C++ that apps call, opens a `.tflite`: asked in its own Python.

MediaPipe wants another NumPy than TensorFlow, so it has an environment of its own.
"""

import os
import subprocess
from pathlib import Path

VARIABLE = "KERAS_HYBRID_MEDIAPIPE"
ENVIRONMENT = ".venv-mediapipe"
INSTALL = (
    f"python3 -m venv {ENVIRONMENT} && {ENVIRONMENT}/bin/pip install 'mediapipe>=1.2,<2' "
    f"(in a clone: make mediapipe); {VARIABLE} names the Python of one elsewhere"
)
SECONDS = 120
_OPEN = """
import sys
from mediapipe.tasks.python import BaseOptions, vision
for task in ("ImageClassifier", "ImageEmbedder", "ImageSegmenter", "ObjectDetector"):
    options = getattr(vision, task + "Options")(base_options=BaseOptions(sys.argv[1]))
    try:
        getattr(vision, task).create_from_options(options).close()
        print("opens", task)
    except Exception as error:
        print("refuses", task, " ".join(str(error).split())[:200])
"""


def find_media_pipe() -> str | None:
    """The Python that has MediaPipe; None where there is none."""
    given = os.environ.get(VARIABLE)
    python = given or Path.cwd() / ENVIRONMENT / "bin" / "python"
    return os.fspath(python) if Path(python).is_file() else None


def open_with_media_pipe(path: str | os.PathLike) -> tuple[tuple[str, ...], str]:
    """The tasks that open a file, and why ImageClassifier does not.

    Returns: the names of the tasks, and ImageClassifier's words where it refuses, else "".

    Raises:
        ValueError: where there is no MediaPipe, or it does not start.
    """
    python = find_media_pipe()
    if python is None:
        raise ValueError(f"MediaPipe is needed: {INSTALL}")
    command = [python, "-c", _OPEN, os.fspath(Path(path).resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    if done.returncode or not lines:
        raise ValueError(f"MediaPipe does not start: {' '.join(done.stderr.split()[-20:])}")
    opened = tuple(task for verdict, task, *_ in lines if verdict == "opens")
    refused = [rest[0] for verdict, task, *rest in lines if verdict == "refuses" and rest]
    return opened, "" if "ImageClassifier" in opened else (refused or [""])[0]
