"""Standard error: commentary goes, what matters stays."""

import ast
import contextlib
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import keras_hybrid
from keras_hybrid.commentary import STANDARD_ERROR, without_commentary

SAID = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def test_commentary_goes_and_errors_stay(capfd):
    with without_commentary():
        os.write(2, SAID + b"ERROR: something else\n")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "ERROR: something else\nlater\n"


def test_all_appears_where_the_block_raises(capfd):
    with pytest.raises(RuntimeError), without_commentary():
        os.write(2, SAID)
        raise RuntimeError
    assert capfd.readouterr().err.encode() == SAID


def test_threads_give_standard_error_back(capfd):
    def speak(number):
        with without_commentary():
            time.sleep(0.01 * (number % 3))
            os.write(2, b"%d\n" % number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(speak, range(8)))
    os.write(2, b"later\n")
    said = capfd.readouterr().err.splitlines()
    assert sorted(said[:-1]) == list("01234567") and said[-1] == "later"


def test_a_file_is_opened_without_a_word(tmp_path, capfd):
    """LiteRT's commentary comes from C++, once a process: in one that no other test has used."""
    import subprocess
    import sys

    import keras

    from keras_hybrid.export.convert import export_tflite

    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(4, 3)(inputs)
    path = export_tflite(keras.Model(inputs, outputs), tmp_path / "model.tflite")
    code = (
        "import sys\nfrom keras_hybrid.litert import open_interpreter\n"
        "found = open_interpreter(sys.argv[1])\nfound.allocate_tensors()\nfound.invoke()"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_standard_error_is_the_one_of_now(monkeypatch):
    with contextlib.redirect_stderr(io.StringIO()) as first:
        print("one", file=STANDARD_ERROR, flush=True)
    first.close()
    with contextlib.redirect_stderr(io.StringIO()) as second:
        print("two", file=STANDARD_ERROR, flush=True)
    assert second.getvalue() == "two\n"
    monkeypatch.setattr("sys.stderr", None)  # as in programs without a console
    print("three", file=STANDARD_ERROR, flush=True)
    assert not STANDARD_ERROR.isatty()


def test_no_default_is_the_standard_error_of_the_import():
    for path in Path(keras_hybrid.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arguments):
                defaults = [ast.unparse(x) for x in (*node.defaults, *node.kw_defaults) if x]
                assert not {"sys.stderr", "sys.stdout"}.intersection(defaults), path
