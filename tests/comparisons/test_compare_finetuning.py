"""compare_finetuning.py from end to end, with a network that trains in milliseconds."""

import json
import re

import numpy as np
import pytest

# Puts the small network in place of IFormerT.
SMALL = """
import sys

sys.path.append({folder!r})
from keras_hybrid.training.run import run
from test_finetuning import staged_network

run.new_network = staged_network
"""


@pytest.mark.large
def test_both_runs_are_printed_side_by_side(programs, root, tmp_path, require):
    require(module="tensorflow_datasets")
    require(module="sklearn")
    folder = tmp_path / "out"
    (network,) = (root / "tests" / "training").rglob("test_finetuning.py")
    done = programs(
        "comparisons/compare_finetuning.py",
        *("--model=IFormerT", f"--out={folder}", f"--data_dir={tmp_path}"),
        *("--seeds=2", "epochs=3", "warmup_epochs=0"),
        before=SMALL.format(folder=str(network.parent)),
        fresh=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    printed = done.stdout
    assert "IFormerT, digits, classes 5 6 7 8 9, 20 images a class, 177 test images" in printed
    accuracies = re.search(r"^test accuracy +(\S+) \+- (\S+) +(\S+) \+- (\S+)$", printed, re.M)
    means = {}
    for name, start in (("fine-tuned", str(folder / "pretrained")), ("from_scratch", None)):
        finals = []
        for seed in (0, 1):
            run = folder / f"{name}_seed{seed}"
            recipe = json.loads((run / "run.json").read_text())["recipe"]
            assert recipe["batch_size"] == 20 and recipe["seed"] == seed
            assert recipe["initial_weights"] == start
            with np.load(run / "state.npz") as arrays:
                rows = json.loads(str(arrays["history"]))
            assert len(rows) == 3
            finals.append(100 * rows[-1]["val_accuracy"])
        means[name] = f"{np.mean(finals):.2f}", f"{np.std(finals, ddof=1):.2f}"
    assert accuracies.groups() == (*means["fine-tuned"], *means["from_scratch"])
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((folder / "result.json").read_text())
    assert result["recipe"] == "finetune/iformer" and means["from_scratch"][0] in result["what"]
