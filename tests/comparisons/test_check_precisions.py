"""comparisons/check_precisions.py as a user runs it."""

import json

import pytest


@pytest.fixture
def check(programs, require):
    require(module="ai_edge_litert")
    require(module="sklearn")
    return lambda *arguments: programs("comparisons/check_precisions.py", *arguments)


@pytest.mark.large
def test_rows_are_made_once_kept_and_judged(check, tmp_path):
    arguments = (
        f"--out={tmp_path}",
        "--models=MobileNet",
        "--size=32",
        "--precisions=float16,dynamic",
        "--weights=trained",
        "--steps=3",
        "--images=20",
    )
    done = check(*arguments)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["precision"] for row in rows] == ["float16", "dynamic"], done.stderr
    assert all(row["pixels"] == 32 and row["decibels"] > 20 for row in rows)
    assert rows[0]["decibels"] > 50 and rows[0]["agreement"] == 1 and not rows[0]["missed"]
    assert done.returncode == bool(rows[1]["missed"])
    rows[0]["missed"] = ["a bar"]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    again = check(*arguments)
    assert again.returncode == 1 and "a bar" in again.stdout  # as it is kept: not made again


def test_what_there_is_not_is_refused(check, tmp_path):
    done = check(f"--out={tmp_path}", "--models=MobileFormer27M")
    assert done.returncode == 1 and "Received: MobileFormer27M" in done.stderr
    done = check(f"--out={tmp_path}", "--precisions=int4")
    assert done.returncode == 1 and "Received: ['int4']" in done.stderr
