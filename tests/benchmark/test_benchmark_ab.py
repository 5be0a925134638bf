"""A/B of two programs and of two sets of flags, sessions compared, and the whole way with adb."""

import dataclasses
import shutil

import pytest
from fake_phone import store_answers, write_benchmark_model

from keras_hybrid.benchmark.health.device_state import Rules
from keras_hybrid.benchmark.plan import Cell, Repetitions, latest
from keras_hybrid.benchmark.results import comparison, tables
from keras_hybrid.benchmark.rows import Row, read_rows
from keras_hybrid.benchmark.session import Session
from keras_hybrid.benchmark.targets.host_target import Host
from keras_hybrid.benchmark.targets.options import Variant


def slower_program(folder, factor):
    """Another build that takes `factor` times as long."""
    folder.mkdir()
    program = write_benchmark_model(folder)
    launcher = folder / "benchmark_model_classic_launcher"
    text = launcher.read_text().replace("exec ", f"STANDIN_SLOWDOWN={factor} exec ")
    launcher.write_text(text)
    return str(program)


@pytest.fixture
def run_variants(binary, make_models, make_options, tmp_path):
    """Six pairs of the variants of one model on this machine, through a stand-in."""

    def start(other):
        a = Variant((str(binary),), ("--run_delay=-1",))
        options = make_options(
            variants={"A": a, "B": dataclasses.replace(a, **other)},
            rules=Rules(max_load_per_core=1e9),  # this machine may have other work
        )
        (model,) = make_models("a.tflite")
        cells = [Cell(model, 1, "cpu", variant=name) for name in "AB"]
        said = []
        session = Session(tmp_path / "out", cells, Repetitions(6, 6), paired=True, say=said.append)
        session.run([Host(options)])
        return read_rows(tmp_path / "out/rows.jsonl")

    return start


def test_two_programs_are_compared_pair_by_pair(run_variants, tmp_path):
    rows = run_variants({"binaries": (slower_program(tmp_path / "b", 1.3),)})
    assert [row.status for row in rows] == ["ok"] * 12
    for first, second in zip(rows[::2], rows[1::2], strict=True):  # interleaved
        assert first.repetition == second.repetition
        assert {first.variant, second.variant} == {"A", "B"}
    assert len({row.binary["sha256"] for row in rows}) == 2
    (found,) = comparison.compare_variants(rows)
    assert found.ratio == pytest.approx(1.3, rel=0.03) and found.verdict == "slower"
    assert found.changed == ("binary",) and found.configuration[2] == "a.tflite, B over A"
    assert found.earlier_rows == 6 and found.spread == "over pairs"
    cells = tables.summarize(rows)
    assert len(cells) == 2 and all("variant" in cell.conditions for cell in cells)


def test_two_sets_of_flags_are_compared_pair_by_pair(run_variants):
    rows = run_variants({"extra_flags": ("--run_delay=-1", "--use_hexagon=false")})
    (found,) = comparison.compare_variants(rows)
    assert found.ratio == pytest.approx(1, rel=0.03)
    assert found.changed == ("flags: with --use_hexagon=false",)
    for row in rows:
        assert ("--use_hexagon=false" in row.command) == (row.variant == "B")
    with pytest.raises(ValueError, match="Both variants"):
        comparison.compare_variants([row for row in rows if row.variant == "A"])


def test_a_program_is_not_compared_with_the_interpreter(make_options, make_models, binary):
    variants = {"A": Variant(), "B": Variant((str(binary),))}
    cells = [Cell(make_models("a.tflite")[0], 1, "cpu", variant=name) for name in "AB"]
    with pytest.raises(ValueError, match="--host_binary beside --b_binary"):
        Host(make_options(binaries=(), variants=variants)).prepare(cells)


def test_rows_of_two_sessions_stand_side_by_side_and_a_repeated_run_does_not():
    row = Row(model="m", num_threads=1, target="t", session="s1", median_ms=1.0)
    lost = dataclasses.replace(row, status="interrupted", median_ms=None)
    again = dataclasses.replace(row, session="s2", median_ms=2.0)
    assert latest([lost, again]) == [again]
    assert latest([row, again]) == [row, again]  # e.g. of two files
    sides = [
        [
            dataclasses.replace(row, session=f"{side}{n}", median_ms=ms + n / 100, repetition=r)
            for n in range(2)
            for r in range(3)
        ]
        for side, ms in (("old", 10.0), ("new", 12.0))
    ]
    (found,) = comparison.compare(*sides)
    assert found.spread == "between sessions" and found.earlier_rows == 6


def test_pairs_are_looked_at_twice_for_an_interval_of_95_per_cent():
    """One look's interval is wider than 95%: both together hold the truth in 95%."""
    rows = [
        Row(model=name, num_threads=1, target="t", repetition=n, session="s",
            median_ms=10.0 * (1.01 if name == "b" else 1.0) * (1 + 0.001 * (n % 3) * (name == "b")))
        for n in range(6)
        for name in "ab"
    ]  # fmt: skip
    (wide,) = comparison.compare_pairs(rows, "a", "b")
    (narrow,) = comparison.compare_pairs(rows, "a", "b", confidence=0.95)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.large
def test_the_whole_way_with_adb(
    make_phone, make_models, binary, command, tmp_path, image_model, photos, cases
):
    """A/B, sustained, verified, two transports, import: one folder, one report."""
    from test_benchmark_command import SHORT

    phone = make_phone(properties={"ro.serialno": "R58M1"}.items())
    store_answers(phone, cases)
    other = slower_program(tmp_path / "b", 1.3)
    out = tmp_path / "out"
    common = ["--target=android", f"--benchmark_binary={binary}", f"--output={out}", *SHORT,
              "--repetitions=5", "--max_repetitions=5", "--watch_seconds=0.1"]  # fmt: skip
    serials = [
        f"--serial={phone.serial}",
        f"--serial={phone.serial.replace('127.0.0.1', 'localhost')}",
    ]
    status, output = command(
        *common, *serials, "--ab", f"--b_binary={other}", f"--verify={photos}", image_model
    )
    assert status == 0, output
    rows = read_rows(out / "rows.jsonl")
    assert [row.kind for row in rows].count("verification") == 2
    assert len(rows) == 12 and {row.status for row in rows} == {"ok"}  # measured once
    assert "same phone" in output or "same device" in output
    assert "| slower | over pairs |" in (out / "ab.md").read_text()
    assert {row.device_id for row in rows} == {"R58M1"}
    free = [flag for flag in common if not flag.startswith("--min_runs")]
    status, output = command(
        *free, "--resume", "--minutes=0.05", "--cold_start", "--preset=mlperf_mobile", image_model
    )
    assert status == 0, output
    rows = read_rows(out / "rows.jsonl")
    kinds = {row.kind for row in rows}
    assert kinds == {"latency", "verification", "sustained", "cold_start"}
    preset = [row for row in rows if row.kind == "latency" and not row.variant]
    assert all("--num_runs=1024" in row.command and row.runs >= 1024 for row in preset)
    status, output = command(
        "import", out / rows[-1].log, "--device=Farm 9", f"--output={out}", "--delegates=cpu"
    )
    assert status == 0, output
    report = (out / "report.md").read_text()
    for words in ("# Verification", "# Cold start", "# Sustained", "Farm 9", "GHz"):
        assert words in report
    phone.set_standin_faults(wrong_output=True)
    shutil.rmtree(out)
    status, output = command(*common, f"--verify={photos}", "--delegates=gpu", image_model)
    assert status == 5 and "wrong_output" in output
    assert phone.files() == []
