"""Processes of our own that do one task with LiteRT and answer with one JSON object.

So the harness itself needs neither NumPy nor LiteRT, and what is timed starts cold.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ANSWER = "keras_hybrid_answer:"  # what a process prints before its answer


def run_worker(module: str, arguments: list[str], seconds: float) -> tuple[dict | None, str]:
    """Runs a module of this package in a process of its own.

    Args:
        module: its full name; it prints its answer behind `ANSWER`, on one line.
        seconds: how long it may take.

    Returns:
        The answer and "", or None and what went wrong.
    """
    package_parent = str(Path(__file__).parents[2])
    search_path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            start_new_session=True,  # Ctrl-C is for the harness, which ends runs in order
            env={**os.environ, "PYTHONPATH": search_path},
        )
    except subprocess.TimeoutExpired:
        return None, f"no result within {seconds:.0f} s"
    for line in done.stdout.splitlines():
        if line.startswith(ANSWER) and done.returncode == 0:
            return json.loads(line[len(ANSWER) :]), ""
    message = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return None, f"the process ended with status {done.returncode}: {message}"
