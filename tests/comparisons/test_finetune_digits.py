"""finetune_digits.py: the table of finished runs, and what it says of the bars."""

import json

import pytest


@pytest.mark.parametrize(
    ("transferred", "missed"),
    [
        (97.0, []),
        (95.0, ["transferred: A, 40 photos, checkpoint"]),
        (39.0, ["over chance: A, 40 photos, checkpoint", "transferred: A, 40 photos, checkpoint"]),
    ],
)
def test_finished_runs_are_judged(programs, tmp_path, require, transferred, missed):
    require(module="sklearn")
    saved = {
        (130, "none"): 96.0,
        (130, "checkpoint"): 99.0,
        (40, "none"): 95.0,
        (40, "checkpoint"): transferred,
    }
    for (photos, start), percent in saved.items():
        row = {"model": "A", "photos": photos, "start": start, "minutes": 1.0, "epochs": 30}
        row |= {"saved": percent, "best": percent + 1, "held back": 251}
        (tmp_path / f"A_{photos}_{start}_seed0.json").write_text(json.dumps(row))
    done = programs(
        "comparisons/finetune_digits.py",
        "--models=A",
        "--photos=130,40",
        f"--out={tmp_path}",
        fresh=not missed,
    )
    assert done.returncode == (1 if missed else 0), done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(saved) + 1 + len(missed)
    assert f"{8 - len(missed)} of 8 bars hold" in lines
    assert [line.split(maxsplit=1)[1] for line in lines[-len(missed) :] if missed] == missed
