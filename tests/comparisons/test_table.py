"""comparisons/table.py as a user runs it."""

import json

import pytest


@pytest.fixture
def table(programs):
    def run(*arguments, **options):
        return programs("comparisons/table.py", *arguments, **options)

    return run


@pytest.mark.large
def test_the_table_is_printed_stored_and_compared(table, tmp_path):
    arguments = (
        f"--folder={tmp_path}",
        "--models=IFormerT",
        "--rounds=2",
        "--seconds=0.01",
    )
    done = table(*arguments)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads((tmp_path / "table.json").read_text())}
    assert rows["MobileNetV3Large"]["ratio"] == 1
    network = rows["IFormerT"]
    assert network["partitions"] == 1 and network["ratio"] > 0
    assert 0 < network["bare_multiply_adds"] < network["multiply_adds"]
    assert 0 < network["efficiency"] < 3 and network["floor"] > 0
    (tmp_path / "table.json").rename(tmp_path / "earlier.json")
    (tmp_path / "theirs.json").write_text('{"IFormerT": 1e9}')
    done = table(
        *arguments,
        "--reuse",
        f"--compare={tmp_path / 'earlier.json'}",
        f"--against={tmp_path / 'theirs.json'}",
    )
    assert "exporting" not in done.stdout
    assert "before" in done.stdout and "geometric mean of 1: 0.000" in done.stdout
    (network,) = (
        row
        for row in json.loads((tmp_path / "table.json").read_text())
        if row["name"] == "IFormerT"
    )
    assert network["of_peer"] == pytest.approx(network["ratio"] / 1e9)


def test_a_peer_that_cannot_be_exported_is_explained(table, tmp_path):
    """`false` stands for a Python without litert-torch."""
    for name in ("MobileNetV3Large", "MobileViTXXS"):
        (tmp_path / f"{name}.tflite").touch()
        row = {"name": name, "path": str(tmp_path / f"{name}.tflite")}
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
    arguments = (
        f"--folder={tmp_path}",
        "--models=MobileViTXXS",
        "--reuse",
        "--noefficiency",
    )
    done = table(*arguments, "--litert_torch=/bin/false")
    assert done.returncode == 1 and "litert-torch did not export MobileViTXXS" in done.stderr
    done = table(*arguments, "--litert_torch=missing_python")
    assert done.returncode == 1 and "--litert_torch=missing_python" in done.stderr


def test_a_file_that_is_missing_is_named(table):
    done = table("--compare=missing.json", fresh=True)
    assert done.returncode == 1 and "missing.json" in done.stderr
    assert "Traceback" not in done.stderr
