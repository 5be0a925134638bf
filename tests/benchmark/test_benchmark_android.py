"""The matrix on phones, through the real adb client and a device daemon on loopback."""

import pytest

from keras_hybrid.benchmark.adb import Adb
from keras_hybrid.benchmark.phone import Phone
from keras_hybrid.benchmark.plan import Cell, Repetitions
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.session import Session


@pytest.fixture
def run(tmp_path, make_models, make_options):
    """Runs cells of one model on a phone; gives rows, outcome and the lines for the user."""

    def start(phone, *, cells=None, repetitions=1, resume=False, timeout=10.0, **options):
        said = []
        cells = cells or [Cell(model, 1, "cpu") for model in make_models("a.tflite", "b.tflite")]
        target = Phone(Adb(phone.serial, timeout=timeout), make_options(**options))
        session = Session(
            tmp_path / "out",
            cells,
            Repetitions(repetitions, repetitions),
            resume=resume,
            reconnect_seconds=3.0,
            say=said.append,
        )
        outcome = session.run([target])[0]
        path = tmp_path / "out" / "rows.jsonl"
        return (read_rows(path) if path.exists() else []), outcome, "\n".join(said)

    return start


def test_runs_and_cleans_up(make_phone, run):
    phone = make_phone()
    rows, outcome, _ = run(phone)
    assert outcome.complete, outcome
    assert [row.status for row in rows] == ["ok", "ok"], rows
    assert phone.files() == []
