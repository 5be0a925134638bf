"""Rows on disk, order of runs, statistics, tables, comparison, pictures."""

import csv
import dataclasses
import json
import math
import os
import random
import struct

import pytest

from keras_hybrid.benchmark import rows as rows_module
from keras_hybrid.benchmark.plan import Cell, Model, Plan, Repetitions, latest
from keras_hybrid.benchmark.results import comparison, plots, reports, statistics, tables
from keras_hybrid.benchmark.results.terminal_table import rows_as_text
from keras_hybrid.benchmark.rows import Row, RowFile, read_rows


def make_row(model="m.tflite", ms=10.0, repetition=0, **changes):
    values = dict(
        model=model,
        num_threads=1,
        target="android",
        repetition=repetition,
        median_ms=ms,
        mean_ms=None if ms is None else ms * 1.01,
        p95_ms=None if ms is None else ms * 1.1,
        device={"serial": "S1", "model": "Phone $1"},
        model_sha256=f"sha-{model}",
        binary={"name": "benchmark_model", "flavour": "classic", "sha256": "ab" * 32},
    )
    return Row(**{**values, **changes})


def make_cells(count=3):
    return [
        Cell(Model(f"/m{n}.tflite", f"m{n}.tflite", f"sha-m{n}.tflite", 10), 1, "cpu")
        for n in range(count)
    ]


def test_rows_survive_the_file():
    row = make_row(notes=("a", "b"), profile=({"kind": "X", "name": "y", "ms": 1.0},))
    assert Row.from_dict(json.loads(json.dumps(row.as_dict()))) == row
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.median_ms = 1.0


@pytest.mark.parametrize(
    "change, message",
    [({"schema": 99}, "schema=99"), ({"colour": 1}, "colour"), ({"model": None}, "missing")],
)
def test_foreign_rows_are_refused(change, message):
    values = {**make_row().as_dict(), **change}
    if change.get("model", "") is None:
        del values["model"]
    with pytest.raises(ValueError, match=message):
        Row.from_dict(values)


def test_unknown_status_is_refused():
    with pytest.raises(ValueError, match="status='fine'"):
        make_row(status="fine")


def test_a_row_is_on_disk_when_append_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(rows_module.os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    RowFile(tmp_path / "rows.jsonl").append(make_row())
    assert synced == [(tmp_path / "rows.jsonl").stat().st_size]  # nothing came after it


def test_a_half_written_last_line_is_left_out_and_cut_off(tmp_path):
    path = tmp_path / "rows.jsonl"
    RowFile(path).append(make_row())
    path.write_text(path.read_text() + '{"model": "x", "num_th')
    assert len(read_rows(path)) == 1
    RowFile(path).append(make_row(repetition=1))
    assert [row.repetition for row in read_rows(path)] == [0, 1]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    RowFile(path).append(make_row())
    path.write_text("garbage\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1"):
        read_rows(path)


def take_all(plan, status="ok", ms=10.0):
    order = []
    while (following := plan.next()) is not None:
        cell, repetition = following
        order.append((cell.model.name, repetition))
        time = ms(cell, repetition) if callable(ms) else ms
        row = make_row(cell.model.name, time, repetition, status=status)
        plan.record(cell, row)
        assert len(order) < 1000
    return order


def test_order_is_interleaved_and_repeatable():
    orders = [take_all(Plan(make_cells(), Repetitions(3, 3), seed=seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert len(set(orders[0])) == 9
    for begin in range(0, 9, 3):  # every round holds every model once
        assert len({name for name, _ in orders[0][begin : begin + 3]}) == 3


def test_cells_that_spread_are_repeated_more_up_to_the_limit():
    generator = random.Random(0)

    def ms(cell, repetition):
        return generator.uniform(5, 15) if cell.model.name == "m0.tflite" else 10.0

    order = take_all(Plan(make_cells(), Repetitions(3, 7, max_spread=0.05)), ms=ms)
    counts = {n: sum(name == f"m{n}.tflite" for name, _ in order) for n in range(3)}
    assert counts == {0: 7, 1: 3, 2: 3}


def test_resume_repeats_what_is_no_measurement_only():
    rows = [
        make_row("m0.tflite", repetition=0),
        make_row("m0.tflite", repetition=1, status="failed"),
        make_row("m1.tflite", repetition=0, status="fell_back"),
        make_row("m1.tflite", repetition=1, status="interrupted"),
        make_row("m2.tflite", repetition=0, status="invalid"),
        make_row("m2.tflite", repetition=1, model_sha256="another file"),
    ]
    plan = Plan(make_cells(), Repetitions(2, 2), rows)
    assert plan.remaining() == 4
    expected = {("m0.tflite", 1), ("m1.tflite", 1), ("m2.tflite", 0), ("m2.tflite", 1)}
    assert set(take_all(plan)) == expected
    assert plan.remaining() == 0


def test_interrupted_runs_stay_to_be_done():
    plan = Plan(make_cells(1), Repetitions(1, 1))
    cell, repetition = plan.next()
    plan.record(cell, make_row("m0.tflite", repetition=repetition, status="interrupted"))
    assert plan.next() == (cell, repetition)


def test_the_latest_row_of_a_repetition_counts():
    rows = [make_row(ms=1.0, status="failed"), make_row(ms=2.0)]
    assert [row.median_ms for row in latest(rows)] == [2.0]


@pytest.mark.parametrize("least, most, spread", [(0, 1, 0.1), (3, 2, 0.1), (1, 1, 0)])
def test_impossible_repetitions_are_refused(least, most, spread):
    with pytest.raises(ValueError, match="Received"):
        Repetitions(least, most, spread)


def test_quantiles():
    assert statistics.quantile([4, 1, 3, 2], 0.5) == 2.5
    assert statistics.quantile(list(range(11)), 0.9) == 9
    assert statistics.quantile([7], 0.1) == 7
    with pytest.raises(ValueError, match="0 values"):
        statistics.quantile([], 0.5)
    assert statistics.standard_deviation([328140, 309932]) == 9104  # as benchmark_model prints it


@pytest.mark.large
@pytest.mark.parametrize("count, noise", [(3, "normal"), (10, "normal"),
                                          (5, "outliers"), (10, "skewed")])  # fmt: skip
def test_intervals_cover_the_true_ratio(count, noise):
    generator = random.Random(count)

    def draw(centre):
        def factor():
            if noise == "skewed":
                return 1 + 0.03 * generator.expovariate(1)
            jump = 0.3 if noise == "outliers" and generator.random() < 0.1 else 0.0
            return math.exp(generator.gauss(0, 0.03) + jump)

        return [centre * factor() for _ in range(count)]

    covered = 0
    for _ in range(1000):
        true = math.exp(generator.uniform(-0.3, 0.3))
        _, low, high = statistics.ratio_interval(draw(10.0), draw(10.0 * true), resamples=300)
        covered += low <= true <= high
    assert covered >= 930


def test_intervals_are_of_use_and_repeatable():
    generator = random.Random(3)
    one, two = ([t * math.exp(generator.gauss(0, 0.01)) for _ in range(8)] for t in (10.0, 12.0))
    ratio, low, high = statistics.ratio_interval(one, two)
    assert 1.17 < low < ratio < high < 1.23
    assert statistics.ratio_interval(one, two) == (ratio, low, high)
    assert statistics.ratio_interval([5.0] * 3, [10.0] * 3) == pytest.approx((2, 2, 2))
    for bad in ([1.0, 2.0], [1.0, 2.0, -1.0]):
        with pytest.raises(ValueError, match="Received"):
            statistics.ratio_interval(bad, one)


def test_students_quantiles():
    for share, degrees, value in (
        (0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 9, 2.26216), (0.95, 30, 1.69726),
        (0.975, 2.5, 3.57465), (0.975, 1000, 1.96234), (0.5, 3, 0.0),
    ):  # fmt: skip
        assert statistics.student_quantile(share, degrees) == pytest.approx(value, abs=1e-4)
    with pytest.raises(ValueError, match="share=1.5"):
        statistics.student_quantile(1.5, 3)


def look_twice(ratios, tolerance=0.02):
    """What --ab reports of these pairs: after ten of them if that decides it, else after all."""
    ten = statistics.typical_interval(ratios[:10], comparison.CONFIDENCE)
    if comparison.decide(*ten[1:], tolerance) != "undecided":
        return ten
    return statistics.typical_interval(ratios, comparison.CONFIDENCE)


def test_intervals_of_pairs_and_sessions_cover_the_truth_and_find_five_per_cent():
    """A drift of 4% between sessions and 1 to 3% of noise between processes."""
    generator = random.Random(7)
    inside, across, found = 0, 0, 0
    for trial in range(1000):
        noise = generator.choice([0.01, 0.03])
        true = generator.choice([1.0, 1.01, 1.02, 1.05])  # the tolerance is where looks mislead
        ratios = [
            true * math.exp(generator.gauss(0, noise) - generator.gauss(0, noise))
            for _ in range(20)
        ]
        _, low, high = look_twice(ratios)
        inside += low <= true <= high
        sides = [
            [
                [centre * math.exp(drift + generator.gauss(0, noise)) for _ in range(5)]
                for drift in (generator.gauss(0, 0.04) for _ in range(count))
            ]
            for centre, count in ((10.0, 2 + trial % 2), (10.0 * true, 2 + trial % 3))
        ]
        _, low, high = statistics.grouped_ratio_interval(*sides)
        across += low <= true <= high
        slower = [
            1.05 * math.exp(generator.gauss(0, 0.01) - generator.gauss(0, 0.01)) for _ in range(10)
        ]
        _, low, _ = statistics.typical_interval(slower, comparison.CONFIDENCE)
        found += low > 1
    assert inside >= 930 and across >= 930 and found >= 800


def test_two_sessions_a_side_tell_what_sessions_differ_by():
    earlier = [*repeated(10.0, session="a"), *repeated(10.4, session="b")]
    later = [*repeated(10.2, session="c"), *repeated(10.6, session="d")]
    rows = [
        [dataclasses.replace(row, repetition=n) for n, row in enumerate(side)]
        for side in (earlier, later)
    ]
    (found,) = comparison.compare(*rows)
    assert found.spread == "between sessions" and found.verdict == "undecided"
    (single,) = comparison.compare(earlier[:5], later[:5])
    assert single.spread == "within these sessions"
    assert single.high / single.low < 1.06 < found.high / found.low
    assert "how sessions differ" in comparison.comparison_table([single])


def test_the_stop_rule_sees_a_process_in_another_mode():
    """One of five on a little core: the range of three fast ones would have ended it."""
    generator = random.Random(0)
    counts = []
    for _ in range(50):
        rows, wanted = [], 1
        while len(rows) < wanted:
            slow = 1.3 if generator.random() < 0.25 else 1.0
            ms = 10 * slow * math.exp(generator.gauss(0, 0.01))
            rows.append(make_row(ms=ms, repetition=len(rows)))
            wanted = Repetitions().wanted(rows)
        counts.append(len(rows))
    assert sum(count == 5 for count in counts) < 20 and max(counts) == 20
    quiet = [make_row(ms=10 + n / 100, repetition=n) for n in range(5)]
    assert Repetitions().wanted(quiet) == 5


def test_old_rows_are_read_and_their_peak_is_no_peak():
    values = {**make_row().as_dict(), "schema": 1, "peak_memory_mb": 5.0}
    assert Row.from_dict(values).peak_memory_mb == 5.0
    values["binary"] = {"name": "ai-edge-litert", "flavour": "interpreter"}
    assert Row.from_dict(values).peak_memory_mb is None


def test_memory_has_a_column_for_growth_and_one_for_the_peak():
    rows = repeated(10.0, overall_memory_mb=4.0, peak_memory_mb=90.0)
    (cell,) = tables.summarize(rows)
    assert (cell.memory_growth_mb, cell.peak_memory_mb) == (4.0, 90.0)
    (cell,) = tables.summarize(repeated(10.0, overall_memory_mb=4.0))
    assert (cell.memory_growth_mb, cell.peak_memory_mb) == (4.0, None)  # never one for the other


def repeated(ms, count=5, spread=0.01, **changes):
    return [
        make_row(ms=ms * (1 + spread * (n - count // 2)), repetition=n, **changes)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    "later, verdict, status",
    [
        (repeated(12.0), "slower", 1),
        (repeated(8.0), "faster", 0),
        (repeated(10.05, spread=0.001), "same", 0),
        (repeated(10.4), "undecided", 4),
        (repeated(20.0, count=2), "undecided", 4),
        (repeated(10.0, status="fell_back"), "lost", 1),
        (repeated(10.0, status="throttled"), "lost", 1),
    ],
)
def test_verdicts(later, verdict, status):
    found = comparison.compare(repeated(10.0), later)
    assert [c.verdict for c in found] == [verdict]
    assert comparison.comparison_status(found) == status
    assert verdict in comparison.comparison_table(found)


def test_three_processes_on_either_side_have_no_endless_interval():
    sides = [
        [make_row(ms=ms * factor, repetition=n) for n, ms in enumerate((10.0, 10.0, 10.01))]
        for factor in (1.0, 1.05)
    ]
    (found,) = comparison.compare(*sides)
    assert (found.low, found.high, found.verdict) == (None, None, "undecided")
    assert found.ratio == pytest.approx(1.05)
    assert "inf" not in comparison.comparison_table([found])


def test_a_model_that_is_no_longer_measured_is_lost():
    earlier = repeated(10.0) + repeated(10.0, model="gone.tflite", model_sha256="g")
    found = comparison.compare(earlier, repeated(10.0))
    assert {c.configuration[2]: c.verdict for c in found}["gone.tflite"] == "lost"


def test_comparison_names_what_else_changed_and_refuses_strangers():
    later = repeated(
        10.0,
        binary={"name": "benchmark_model", "sha256": "other"},
        device={"serial": "S1", "fingerprint": "x"},
    )
    earlier = repeated(10.0, device={"serial": "S1", "fingerprint": "y"})
    assert comparison.compare(earlier, later)[0].changed == ("binary", "system")
    with pytest.raises(ValueError, match="in common"):
        comparison.compare(repeated(1.0), repeated(1.0, num_threads=4))
    with pytest.raises(ValueError, match="tolerance=-1"):
        comparison.compare(earlier, later, tolerance=-1)


def test_the_table_drops_no_row_and_counts_only_measurements():
    rows = [
        *repeated(10.0, count=3),
        make_row(ms=99.0, repetition=3, status="throttled", notes=("thermal status 2",)),
        make_row("bad|name.tflite", None, status="failed", notes=("ended with status 1",)),
    ]
    cells = {cell.model: cell for cell in tables.summarize(rows)}
    assert cells["m.tflite"].median_ms == 10.0 and cells["m.tflite"].rows == 3
    assert cells["m.tflite"].others == "1 throttled"
    assert cells["bad|name.tflite"].median_ms is None
    assert cells["bad|name.tflite"].others == "1 failed"
    text = tables.rows_as_markdown(rows)
    assert "thermal status 2" in text and "ended with status 1" in text
    assert "bad\\|name.tflite" in text
    columns = [line.replace("\\|", "").count("|") for line in text.splitlines() if "| " in line[:2]]
    assert len(set(columns)) == 1
    # On a terminal: aligned, no wider than needed, with what is no measurement below.
    table, _, flawed = rows_as_text(rows).partition("\n\n")
    title, *lines = table.splitlines()
    end = title.index("median ms") + len("median ms")
    (measured,) = [line for line in lines if " m.tflite " in line]
    assert measured[:end].endswith(" 10.000") and len(measured) < 100
    assert "p90" not in title, "a column without a figure is left out"
    assert "m.tflite, cpu, #3: throttled: thermal status 2" in flawed
    assert "bad|name.tflite" in table and "ended with status 1" in flawed


def test_csv_holds_every_row(tmp_path):
    tables.write_csv(
        [*repeated(10.0), make_row("x,y.tflite", None, status="failed")], tmp_path / "r"
    )
    with open(tmp_path / "r", newline="") as file:
        records = list(csv.DictReader(file))
    assert len(records) == 6
    assert records[5]["model"] == "x,y.tflite" and records[5]["median_ms"] == ""
    assert float(records[0]["median_ms"]) == 9.8 and records[0]["device.model"] == "Phone $1"


def test_pareto_front():
    points = [(1.0, 50), (2.0, 60), (3.0, 55), (4.0, 70), (2.0, 58)]
    assert plots.pareto_front(points) == [0, 1, 3]
    assert plots.pareto_front([]) == []


def png_size(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


METRICS = {
    f"m{n}.tflite": {
        "label": f"Net-{n}",
        "family": ["Mobile-Former", "MobileViT", "iFormer"][n % 3],
        "accuracy": 64.0 + 2.1 * n,
        "multiply_adds": 26e6 * (n + 1) ** 2,
    }
    for n in range(6)
}


def test_reports_and_pictures_are_written(tmp_path, require):
    require(module="matplotlib")
    rows = [
        row
        for n in range(6)
        for delegate in ("cpu", "gpu")
        for row in repeated(3.0 + n * (1 if delegate == "cpu" else 0.4), 3, model=f"m{n}.tflite",
                            delegate=delegate, model_sha256=str(n))
    ]  # fmt: skip
    written = reports.write_reports(tmp_path, rows, metrics=METRICS)
    names = {path.name for path in written}
    pictures = {"latency.png", "latency_accuracy.png", "latency_multiply_adds.png"}
    assert names == {"report.md", "report.html", "rows.csv"} | pictures
    for name in pictures:
        assert png_size(tmp_path / name)[0] >= 2000  # two panels at twice the common density
        assert f"![{name}]({name})" in (tmp_path / "report.md").read_text()


def test_without_measurements_there_is_a_report_and_no_picture(tmp_path):
    written = reports.write_reports(tmp_path, [make_row(ms=None, status="failed")])
    assert [path.name for path in written] == ["report.md", "rows.csv", "report.html"]
    with pytest.raises(ValueError, match="no measurement"):
        plots.plot_latency([], tmp_path / "x.png")
    with pytest.raises(ValueError, match="metric='beauty'"):
        plots.plot_against([], {}, "beauty", tmp_path / "x.png")


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": {"beauty": 1}}', '{"a": {"accuracy": "x"}}'])
def test_broken_metrics_are_refused(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match="metrics"):
        plots.read_metrics(tmp_path / "metrics.json")
