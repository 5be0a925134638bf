"""recipes/ablate.py: run by run, through SIGKILL, to a table beside the paper's."""

import json
import re
import signal

import pytest

from keras_hybrid.analysis.ablation_table import ablation_table, order_of_rows
from keras_hybrid.analysis.ablations import ABLATIONS

# Puts a small network and data set in place of the real ones; the program kills itself after so
# many saved states as the environment says.
SMALL = """
import os
import signal

import small_training
from keras_hybrid.training.run import callbacks, run
from keras_hybrid.training.data import sources

saves, save_state = [], callbacks.save_state

def save(*arguments, **options):
    save_state(*arguments, **options)
    saves.append(arguments)
    if len(saves) == int(os.environ.get("KILL_AFTER", 0)):
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.save_state = save
run.new_network = small_training.make_tiny_network
sources.open_source = lambda *_: small_training.make_source()
"""
RECIPE = """
import small_training

def get_recipe():
    return small_training.RECIPE
"""


@pytest.fixture
def ablate(programs, tmp_path, require):
    require(module="tensorflow_datasets")
    (tmp_path / "small.py").write_text(RECIPE)

    def call(*arguments, kill_after=0, fresh=False):
        return programs(
            "recipes/ablate.py",
            "--data=greys",
            f"--recipe={tmp_path / 'small.py'}",
            f"--out={tmp_path / 'out'}",
            *arguments,
            before=SMALL,
            env={"KILL_AFTER": kill_after},
            fresh=fresh,
        )

    return call


def lines_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@pytest.mark.large
def test_killed_between_and_inside_runs_it_goes_on(ablate, tmp_path):
    folder = tmp_path / "out"
    arguments = ("--table=mobile_former/table5", "--seeds=2", "--nolatency", "epochs=2")
    # Two runs of two epochs are whole; the third dies after its first epoch.
    killed = ablate(*arguments, kill_after=5)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    before = lines_of(folder)
    assert [(row["row"], row["seed"]) for row in before] == [
        ("Mobile (using ReLU)", 7),
        ("+ Former and Bridge", 7),
    ]
    assert not (folder / "table.md").exists()

    part = ablate(*arguments, "--at_most=1")
    assert part.returncode == 0, part.stderr[-2000:]
    assert "3 of 6 runs left" in part.stderr and "after epoch 1" in part.stderr
    assert part.stderr.count("seed 7") == 1, "what is done is not done again"

    done = ablate(*arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = lines_of(folder)
    assert rows[:2] == before and len(rows) == 6
    assert {row["seed"] for row in rows} == {7, 8}
    assert rows[1]["options"] == {"dynamic_relu": False}
    assert {"git_commit", "machine", "date", "keras", "parameters"} <= rows[0].keys()
    text = (folder / "table.md").read_text()
    assert "**greys**" in text and "**not on ImageNet**" in text and "6 runs of 2 epochs" in text
    assert re.search(r"\| \+ DY-ReLU in Mobile \|.* 77.8 \| 11.4M \| 294M \|", text)
    assert "Order here:" in text and "Command: `python" in text

    other = ablate(*arguments[:-1], "epochs=3")
    assert other.returncode == 1 and "Traceback" not in other.stderr
    assert "ablate.py: The folder holds another ablation" in other.stderr
    assert "epochs=2 there, 3 now" in other.stderr


@pytest.mark.large
def test_an_unknown_table_is_refused_in_a_line(ablate):
    done = ablate("--table=mobile_former/table55", fresh=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Did you mean `mobile_former/table5`?" in done.stderr


def make_runs(accuracies):
    return [
        {"row": label, "seed": seed, "accuracy": value, "parameters": 2e6, "multiply_adds": 3e6}
        for label, values in accuracies.items()
        for seed, value in enumerate(values)
    ]


def test_the_table_has_mean_spread_cost_and_the_papers_figures():
    runs = make_runs({"MHA": [0.90, 0.92, 0.94], "SHMA": [0.5]})
    text = ablation_table(ABLATIONS["iformer/table1"], runs, {"MHA": 1.25, "SHMA": 2.5})
    header, _, *lines = text.splitlines()
    assert "iPhone 13, ms" in header and "latency, ms" in header
    assert len(lines) == 2, "rows without runs are left out"
    cells = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert cells == (
        ["MHA", "92.00", "2.00", "90.00 to 94.00", "3", "2.00M", "3.00M", "1.250"]
        + ["79.9", "-", "-", "1.40"]
    )
    assert lines[1].split("|")[3].strip() == "-", "one run has no spread"
    silu = make_runs({"SiLU + Post-BN": [0.1]})
    assert "diverged" in ablation_table(ABLATIONS["iformer/table6"], silu)


def test_the_order_says_what_the_spread_does_not_tell_apart():
    runs = make_runs(
        {
            "Mobile (using ReLU)": [0.90, 0.92],
            "+ Former and Bridge": [0.92, 0.92],
            "+ DY-ReLU in Mobile": [0.99, 0.99],
        }
    )
    text = order_of_rows(ABLATIONS["mobile_former/table5"], runs)
    assert text.startswith(
        "Order here: + DY-ReLU in Mobile > + Former and Bridge ~ Mobile (using ReLU)."
    )
    assert "Order in the paper: + DY-ReLU in Mobile > + Former and Bridge > Mobile" in text


def test_committed_tables_are_those_of_their_rows(root):
    folders = [path.parent for path in (root / "recipes" / "ablations").glob("*/table.md")]
    assert folders
    for folder in folders:
        text = (folder / "table.md").read_text()
        claim = json.loads((folder / "ablation.json").read_text())
        runs = lines_of(folder)
        ablation = ABLATIONS[claim["table"]]
        assert order_of_rows(ablation, runs) in text
        for line in ablation_table(ablation, runs).splitlines()[2:]:
            measured = line.split("|")[1:8]
            assert "|".join(measured) in text
        assert f"**{claim['data']}**" in text and "**not on ImageNet**" in text
        assert {run["epochs"] for run in runs} == {claim["recipe"]["epochs"]}
        assert not re.search(r"/(home|tmp|work|root)/", text)
