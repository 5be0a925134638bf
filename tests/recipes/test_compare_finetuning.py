"""compare_finetuning.py from end to end, with a network that trains in milliseconds."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

# Puts the small network in place of IFormerT, and runs the program.
PROGRAM = """
import runpy
import sys

from test_finetuning import staged_network
from keras_hybrid.training import run

run.make_model = staged_network
sys.argv[0] = sys.argv.pop(1)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.large
def test_both_runs_are_printed_side_by_side(root, tmp_path, require):
    require(module="tensorflow_datasets")
    require(module="sklearn")
    folder = tmp_path / "out"

    paths = [str(root / "tests"), str(root / "tests" / "training"), *filter(None, sys.path)]
    done = subprocess.run(
        [
            *(sys.executable, "-c", PROGRAM, root / "recipes" / "compare_finetuning.py"),
            *("--model=IFormerT", f"--out={folder}", f"--data_dir={tmp_path}"),
            *("epochs=3", "warmup_epochs=0"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    printed = done.stdout
    assert "IFormerT, digits, classes 5 6 7 8 9, 20 images a class, 177 test images" in printed
    accuracies = re.search(r"^test accuracy +(\S+)% +(\S+)%$", printed, re.M)
    histories = {}
    for name in ("pretrained", "fine-tuned", "from_scratch"):
        described = json.loads((folder / name / "run.json").read_text())
        with np.load(folder / name / "state.npz") as arrays:
            histories[name] = json.loads(str(arrays["history"])), described["recipe"]
    for text, name in zip(accuracies.groups(), ("fine-tuned", "from_scratch"), strict=True):
        rows, recipe = histories[name]
        assert text == f"{100 * rows[-1]['val_accuracy']:.2f}" and len(rows) == 3
        assert recipe["batch_size"] == 20
    assert histories["fine-tuned"][1]["initial_weights"] == str(folder / "pretrained")
    assert histories["from_scratch"][1]["initial_weights"] is None
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((folder / "result.json").read_text())
    assert result["recipe"] == "finetune/iformer" and accuracies[1] in result["what"]
