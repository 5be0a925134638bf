"""What is measured again, what is not, and what is never measured at the same moment."""

import dataclasses
import os
import signal
import threading
import time

import pytest

from keras_hybrid.benchmark import Target, TargetError
from keras_hybrid.benchmark.plan import Cell, Model, Plan, Repetitions
from keras_hybrid.benchmark.results import comparison, tables
from keras_hybrid.benchmark.rows import Row, read_rows
from keras_hybrid.benchmark.session import Session
from keras_hybrid.benchmark.targets.adb import run_adb

CELLS = [Cell(Model(f"/m{n}", f"m{n}.tflite", f"sha{n}", 10), 1, "cpu") for n in range(2)]


class Scripted(Target):
    """A target whose runs end as they are told to."""

    target = "scripted"
    program = "script"

    def __init__(
        self, statuses=(), *, serial="S1", name=None, flags=("--x=1",), mask=None, ms=10.0
    ):
        self.name = name or serial
        self.device = {"serial": serial}
        self.binary = {"name": self.program, "sha256": "aa"}
        self.statuses = list(statuses)
        self.flags, self.mask, self.ms = tuple(flags), None, ms
        self.order = []

    def prepare(self, cells):
        pass

    def describe_run(self, cell):
        return {"command": (f"--graph={cell.model.path}", *self.flags), "cpu_mask": self.mask}

    def run(self, cell, repetition):
        self.order.append((cell.model.name, repetition))
        status = self.statuses.pop(0) if self.statuses else "ok"
        ms = self.ms if status in ("ok", "throttled") else None
        row = self.make_row(
            cell, repetition, status=status, median_ms=ms, **self.describe_run(cell)
        )
        return row, "log"


def run(folder, target, *, cells=CELLS[:1], least=3, most=3, **options):
    session = Session(folder, cells, Repetitions(least, most), say=lambda line: None, **options)
    targets = target if isinstance(target, list) else [target]
    return session.run(targets), read_rows(folder / "rows.jsonl")


def test_throttled_and_failed_runs_are_made_up_for_in_the_same_session(tmp_path):
    _, rows = run(tmp_path, Scripted(["ok", "throttled", "failed"]))
    assert [row.status for row in rows].count("ok") == 3 and len(rows) == 5
    (cell,) = tables.summarize(rows)
    assert cell.rows == 3 and cell.others == ""
    assert len({row.log for row in rows}) == 5  # no log is written over another


def test_what_always_fails_is_not_tried_for_ever(tmp_path):
    _, rows = run(tmp_path, Scripted(["failed"] * 99), least=5, most=9)
    assert len(rows) == 3
    _, rows = run(tmp_path / "hot", Scripted(["throttled"] * 99), least=5, most=9)
    assert len(rows) <= 10


@pytest.mark.parametrize(
    "changes",
    [{"flags": ("--x=2",)}, {"mask": "f0"}, {"binary": {"name": "script", "sha256": "bb"}},
     {"device": {"serial": "S1", "fingerprint": "updated"}}],
)  # fmt: skip
def test_resume_puts_no_other_measurement_into_a_median(tmp_path, changes):
    run(tmp_path, Scripted(ms=10.0))
    other = Scripted(ms=20.0)
    for name, value in changes.items():
        setattr(other, name, value)
    _, rows = run(tmp_path, other, resume=True)
    assert len(rows) == 6
    cells = tables.summarize(rows)
    assert sorted(cell.median_ms for cell in cells) == [10.0, 20.0]
    assert all(cell.rows == 3 and cell.conditions for cell in cells)
    _, rows = run(tmp_path, other, resume=True)
    assert len(rows) == 6  # nothing left to do


def test_comparison_names_flags_that_differ(tmp_path):
    _, old = run(tmp_path / "old", Scripted(flags=("--x=1", "--y=1")))
    _, new = run(tmp_path / "new", Scripted(flags=("--x=1", "--use_gpu=true")))
    (found,) = comparison.compare(old, new)
    assert found.changed == ("flags: without --y=1 with --use_gpu=true",)
    assert "--use\\_gpu=true" in comparison.comparison_table([found])


def test_one_device_under_two_names_is_measured_once(tmp_path):
    targets = [Scripted(name="usb"), Scripted(name="10.0.0.2:5555")]
    outcomes, rows = run(tmp_path, targets)
    assert len(rows) == 3 and all(outcome.complete for outcome in outcomes)
    assert sum("same device" in outcome.message for outcome in outcomes) == 1


def test_this_machine_is_never_timed_together_with_a_phone(tmp_path):
    running, together = [], []

    class Watched(Scripted):
        def run(self, cell, repetition):
            running.append(self.name)
            threading.Event().wait(0.01)
            together.append(frozenset(running))
            running.remove(self.name)
            return super().run(cell, repetition)

    host, phones = Watched(serial="host"), [Watched(serial="A"), Watched(serial="B")]
    host.runs_on_this_machine = True
    run(tmp_path, [phones[0], host, phones[1]], least=5, most=5)
    assert all(names == {"host"} for names in together if "host" in names)
    assert frozenset({"A", "B"}) in together  # phones are timed side by side


def test_a_phone_that_is_another_target_is_left_out(tmp_path):
    class Twin(Scripted):
        def prepare(self, cells):
            error = TargetError("the same phone")
            error.same_device_as = "usb"
            raise error

    session = Session(tmp_path, CELLS[:1], Repetitions(1, 1), say=lambda line: None)
    (outcome,) = session.run([Twin()])
    assert outcome.complete and "usb" in outcome.message


def test_the_second_ctrl_c_ends_the_present_run(tmp_path):
    class Slow(Scripted):
        ended = threading.Event()

        def run(self, cell, repetition):
            assert self.ended.wait(30)
            return super().run(cell, repetition)

        def interrupt(self):
            self.ended.set()

    said = []
    session = Session(tmp_path, CELLS, Repetitions(3, 3), say=said.append)
    timers = [
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)) for seconds in (0.3, 0.8)
    ]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    try:
        for timer in timers:
            timer.start()
        (outcome,) = session.run([Slow()])
    finally:
        signal.signal(signal.SIGINT, before)
    assert not outcome.complete and "--resume" in outcome.message
    (row,) = read_rows(tmp_path / "rows.jsonl")
    assert row.status == "interrupted" and "stopped by the user" in row.notes
    assert len([line for line in said if "stopping" in line]) == 2


def test_ctrl_c_that_another_thread_takes_ends_the_session(tmp_path):
    class Busy(Scripted):
        def run(self, cell, repetition):
            if not self.order:  # the kernel may give a signal to any thread of the process
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            time.sleep(0.02)
            return super().run(cell, repetition)

    session = Session(tmp_path, CELLS, Repetitions(300, 300), say=lambda line: None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        (outcome,) = session.run([Busy()])
    finally:
        signal.signal(signal.SIGINT, before)
    assert not outcome.complete and "--resume" in outcome.message
    assert 1 <= len(read_rows(tmp_path / "rows.jsonl")) < 100


def test_a_run_whose_program_the_same_ctrl_c_ended_has_not_failed(tmp_path):
    class Ended(Scripted):
        def run(self, cell, repetition):
            if not self.order:
                return super().run(cell, repetition)
            threading.Timer(0.1, session.stop.set).start()  # as the main thread does, later
            run_adb(["sh", "-c", "kill -TERM $$"], 10)

    session = Session(tmp_path, CELLS, Repetitions(3, 3), say=lambda line: None)
    (outcome,) = session.run([Ended()])
    assert not outcome.complete and "--resume" in outcome.message
    assert [row.status for row in read_rows(tmp_path / "rows.jsonl")] == ["ok"]


def test_pairs_follow_each_other_and_are_compared_pair_by_pair(tmp_path):
    class Drifting(Scripted):
        def run(self, cell, repetition):
            self.ms = 10.0 + len(self.order) // 2  # the same for both of a pair
            self.ms *= 1.07 if cell.model.name == "m1.tflite" else 1.0
            return super().run(cell, repetition)

    cells = [*CELLS, *(dataclasses.replace(cell, num_threads=4) for cell in CELLS)]
    target = Drifting()
    _, rows = run(tmp_path, target, cells=cells, least=6, most=6, paired=True)
    for first, second in zip(target.order[::2], target.order[1::2], strict=True):
        assert first[1] == second[1] and {first[0], second[0]} == {"m0.tflite", "m1.tflite"}
    found = comparison.compare_pairs(rows, "m0.tflite", "m1.tflite")
    assert len(found) == 2  # thread counts
    for one in found:  # the device doubled its time meanwhile, the pairs did not
        assert one.ratio == pytest.approx(1.07) and one.verdict == "slower"
        assert one.high / one.low < 1.001 and one.spread == "over pairs"
    with pytest.raises(ValueError, match="in one session"):
        comparison.compare_pairs(rows, "m0.tflite", "other.tflite")


def count_runs(plan, ms=lambda cell: 10.0):
    count = 0
    while (following := plan.next()) is not None:
        cell, repetition = following
        plan.record(
            cell,
            Row(model=cell.model.name, num_threads=1, target="t", repetition=repetition,
                median_ms=ms(cell), session="s"),
        )  # fmt: skip
        count += 1
    return count


@pytest.mark.parametrize("answer, count", [(False, 3), (True, 20)])
def test_an_open_question_is_asked_once_and_answered_with_all_processes(answer, count):
    """Of the first three alone: an interval that is looked at again and again misses the truth."""
    asked = []

    def open_question(rows):
        asked.append(sorted(row.repetition for row in rows))
        return answer

    assert count_runs(Plan(CELLS[:1], Repetitions(3, 20, open_question=open_question))) == count
    assert asked and all(repetitions == [0, 1, 2] for repetitions in asked)


def test_pairs_go_on_together_until_their_question_is_answered():
    seen = []

    def open_pairs(rows):
        seen.append(sorted(row.repetition for row in rows))
        return True

    rules = Repetitions(3, 6, max_spread=1e-9, open_pairs=open_pairs)
    assert count_runs(Plan(CELLS, rules, paired=True)) == 12  # six of either
    assert seen and all(repetitions == [0, 0, 1, 1, 2, 2] for repetitions in seen)
    closed = Repetitions(3, 6, max_spread=1e-9, open_pairs=lambda rows: False)
    generator = iter(range(1, 99))
    plan = Plan(CELLS, closed, paired=True)
    assert count_runs(plan, lambda cell: next(generator)) == 6  # spread alone asks for no more


def test_sustained_runs_go_on_without_a_pause_until_the_minutes_are_over(tmp_path):
    cells = [CELLS[0], dataclasses.replace(CELLS[0], kind="sustained")]
    target = Scripted()
    session = Session(tmp_path, cells, Repetitions(2, 2, minutes=0.005), say=lambda line: None)
    (outcome,) = session.run([target])
    rows = read_rows(tmp_path / "rows.jsonl")
    assert outcome.complete
    assert [row.kind for row in rows[:2]] == ["latency", "latency"]
    sustained = [row for row in rows if row.kind == "sustained"]
    assert len(sustained) == len(rows) - 2 >= 3
    assert [row.repetition for row in sustained] == list(range(len(sustained)))
    (cell,) = tables.summarize(rows)
    assert cell.rows == 2  # what was measured hot is in no median


def test_a_sustained_run_that_fails_ends(tmp_path):
    cells = [dataclasses.replace(CELLS[0], kind="sustained")]
    session = Session(tmp_path, cells, Repetitions(1, 1, minutes=9.0), say=lambda line: None)
    (outcome,) = session.run([Scripted(["ok", "failed"])])
    assert outcome.complete
    assert [row.status for row in read_rows(tmp_path / "rows.jsonl")] == ["ok", "failed"]
