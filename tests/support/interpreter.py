"""What a program costs the interpreter, counted: the same on any machine, however busy."""

import re
import subprocess
import sys

COUNTED = """
import atexit, sys

calls = [0]

def count(frame, event, argument):
    calls[0] += event in ("call", "c_call")

def tell():
    sys.setprofile(None)
    print("calls:", calls[0])

atexit.register(tell)
sys.setprofile(count)
"""


def count_calls(code, folder):
    """Calls of functions (Python's and C's) while a new interpreter runs `code` in `folder`.

    `calls[0] = 0` within `code` leaves out what was before. A quiet machine makes about
    1.5 million a second.

    Returns:
        The number, and what `code` printed.
    """
    line = [sys.executable, "-c", COUNTED + code]
    subprocess.run(line, capture_output=True, cwd=folder)  # what it imports is compiled once
    done = subprocess.run(line, capture_output=True, text=True, cwd=folder, check=True)
    (number,) = re.findall(r"^calls: (\d+)$", done.stdout, re.MULTILINE)
    return int(number), done.stdout
