"""comparisons/benchmark_int8.py as a user runs it."""

import json

import pytest


@pytest.fixture
def run(programs, require):
    require(module="tensorflow_model_optimization")
    require(module="ai_edge_litert")

    def run(*arguments, **options):
        return programs("comparisons/benchmark_int8.py", *arguments, **options)

    return run


@pytest.mark.large
def test_rows_are_printed_stored_and_judged(run, tmp_path):
    arguments = (
        f"--folder={tmp_path}",
        "--models=IFormerT",
        "--input_size=64",
        "--images=1",
        "--rounds=2",
        "--seconds=0.01",
        "--bar",
    )
    done = run(*arguments)
    assert "exporting IFormerT_64_int8_cpu.tflite" in done.stdout, done.stderr
    rows = {row["precision"]: row for row in json.loads((tmp_path / "int8.json").read_text())}
    assert list(rows) == ["float32", "int8_cpu", "int8"]
    assert {row["input_size"] for row in rows.values()} == {64}
    assert rows["float32"]["ratio"] == rows["float32"]["size"] == 1
    assert rows["int8"]["offenders"] == [] and rows["int8"]["float_tensors"] == 0
    assert 0 < rows["int8_cpu"]["float_tensors"] < rows["float32"]["float_tensors"]
    assert rows["int8"]["size"] < 0.3
    slow = rows["int8_cpu"]["ratio"] > 0.62
    assert slow == ("int8_cpu: geometric mean" in done.stdout)
    assert done.returncode == int("every bar is held" not in done.stdout)

    done = run(*arguments, "--reuse")
    assert "exporting" not in done.stdout and "timing IFormerT" in done.stdout


@pytest.mark.large
def test_bad_input_is_explained(run, tmp_path):
    done = run(f"--folder={tmp_path}", "--models=IFormerX", fresh=True)
    assert done.returncode == 1
    assert "Did you mean" in done.stderr and "Traceback" not in done.stderr
