"""A target that the package does not know: one class, measured like any other."""

import pytest

from keras_hybrid.benchmark import Target, TargetError
from keras_hybrid.benchmark.plan import Cell, Model, Repetitions
from keras_hybrid.benchmark.results.comparison import compare
from keras_hybrid.benchmark.results.reports import write_reports
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.session import Session

CELLS = [Cell(Model(f"/m{n}", f"m{n}.tflite", f"sha{n}", 10), 1, "cpu") for n in range(2)]


class Toaster(Target):
    """The fourth target: it forgets its first run, as unplugged things do."""

    target = "toaster"
    program = "crumb runner"

    def __init__(self, name="kitchen", breaks=1):
        self.name = name
        self.device = {"serial": name, "model": "Toaster 2000"}
        self.binary = {"name": self.program, "version": "1"}
        self.session = "breakfast"
        self.breaks = breaks
        self.calls = []

    def prepare(self, cells):
        self.calls.append("prepare")

    def run(self, cell, repetition):
        if self.breaks:
            self.breaks -= 1
            error = TargetError("the plug fell out")
            error.device_is_lost = error.waiting_helps = True
            raise error
        row = self.make_row(cell, repetition, median_ms=7.0 + repetition / 100, runs=50)
        return row, "count=50"

    def close(self):
        self.calls.append("close")


def test_a_fourth_target_is_one_class(tmp_path):
    toaster = Toaster()
    session = Session(tmp_path, CELLS, Repetitions(3, 3), say=lambda line: None)
    (outcome,) = session.run([toaster])
    assert outcome.complete, outcome
    assert toaster.calls == ["prepare", "prepare", "close"]  # again after it was lost
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row.status for row in rows].count("interrupted") == 1
    good = [row for row in rows if row.status == "ok"]
    assert len(good) == 6 and {row.target for row in good} == {"toaster"}
    assert all((tmp_path / row.log).read_text() == "count=50" for row in good)
    assert {(row.session, row.program, row.model_bytes) for row in good} == {
        ("breakfast", "crumb runner", 10)
    }
    write_reports(tmp_path, rows)
    assert "Toaster 2000 (kitchen)" in (tmp_path / "report.md").read_text()
    assert {c.verdict for c in compare(rows, rows)} == {"same"}


def test_the_contract_names_what_is_missing():
    class Half(Target):
        pass

    with pytest.raises(TypeError, match="prepare.*run"):
        Half()
