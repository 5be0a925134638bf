"""The page, the sustained curve, logs from elsewhere."""

import json
import re

import pytest
from benchmark_logs import LOGS, make_log

from keras_hybrid.benchmark import DELEGATES, import_logs
from keras_hybrid.benchmark.results.html_report import report_page
from keras_hybrid.benchmark.results.reports import write_reports
from keras_hybrid.benchmark.results.sustained import sustained_runs, sustained_table
from keras_hybrid.benchmark.rows import Row


def make_row(**changes):
    values = dict(model="m.tflite", num_threads=1, target="android", median_ms=10.0,
                  device={"serial": "S1"}, session="a",
                  started="2026-05-01T10:00:00+00:00")  # fmt: skip
    return Row(**{**values, **changes})


def test_the_page_holds_every_row_and_needs_nothing_else():
    name = "</script><script>alert(1)</script>.tflite"
    rows = [make_row(), make_row(model=name, status="failed", median_ms=None, notes=("why",))]
    page = report_page(rows, {"m.tflite": {"accuracy": 70.0}})
    assert not re.search(r"https?://(?!www\.w3\.org)|src=|<link", page)
    assert "alert(1)</script>" not in page
    data = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    content = json.loads(data)
    assert [row["model"] for row in content["rows"]] == ["m.tflite", name]
    assert content["rows"][1]["notes"] == ["why"]
    assert content["metrics"] == {"m.tflite": {"accuracy": 70.0}}


def sustained(count=30, seconds=10):
    return [
        make_row(
            kind="sustained",
            repetition=n,
            median_ms=10.0 + n / 10,
            started=f"2026-05-01T10:{n * seconds // 60:02}:{n * seconds % 60:02}+00:00",
            state_before={"battery_c": 30.0 + n},
            state_after={"battery_c": 31.0 + n},
            notes=("after: cores [7] are capped",) if n > 20 else (),
        )
        for n in range(count)
    ]


def test_a_sustained_run_has_a_first_and_a_last_minute(tmp_path):
    rows = sustained()
    (run,) = sustained_runs(reversed(rows))
    assert run.minutes[0] == 0 and run.minutes[-1] == pytest.approx(29 / 6)
    assert run.first_ms == pytest.approx(10.25)  # six processes
    assert run.last_ms == pytest.approx(12.65)
    assert run.p90_ms == pytest.approx(12.61)
    assert run.battery_c == (30.0, 60.0) and run.capped
    assert "| 10.250 | 12.650 | 1.234 |" in sustained_table([run])
    write_reports(tmp_path, rows)
    assert "# Sustained" in (tmp_path / "report.md").read_text()
    assert '"kind": "sustained"' in (tmp_path / "report.html").read_text()


def test_logs_from_elsewhere_become_rows(tmp_path):
    texts = [LOGS[0], make_log("classic", "--use_gpu=true"), LOGS[0][:200], "hello"]
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"log{number}.txt")
        paths[-1].write_text(text)
    rows = import_logs(map(str, paths), DELEGATES["cpu"], device="Farm 7", session="s")
    assert [row.status for row in rows] == ["ok", "fell_back", "invalid", "invalid"]
    assert rows[0].median_ms and rows[0].num_threads == 2
    assert {row.device_id for row in rows} == {"Farm 7"}
    assert rows[0].model == "benchmark_logs.py"  # the file that the stand-in was given
    assert [row.repetition for row in rows[:2]] == [0, 1]
    assert rows[3].model == "log3.txt"
    assert any("number of threads" in note for note in rows[3].notes)
    with pytest.raises(ValueError, match="must be a file"):
        import_logs([str(tmp_path / "none")], DELEGATES["cpu"])


def test_pictures_put_no_two_measurements_into_one_bar():
    from keras_hybrid.benchmark.results import plots

    rows = [
        make_row(repetition=n, median_ms=ms, command=(f"--use_x={flag}",))
        for flag, ms in (("a", 10.0), ("b", 20.0))
        for n in range(2)
    ]
    panels = plots._times(rows)
    assert [list(models.values()) for models in panels.values()] == [[[10.0, 10.0]], [[20.0, 20.0]]]
    assert [key[4] for key in panels] == ["--use_x=a", "--use_x=b"]
