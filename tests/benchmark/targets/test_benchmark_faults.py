"""Phones that go away, lie, hang and fill up: no row is lost, nothing hangs, --resume completes."""

import threading
import time

import pytest

from keras_hybrid.benchmark.plan import Cell, Repetitions, latest
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.session import Session
from keras_hybrid.benchmark.targets.adb import Adb, AdbError
from keras_hybrid.benchmark.targets.phone import Phone


def statuses(rows):
    return sorted(row.status for row in latest(rows))


@pytest.fixture
def big_models(make_models, tmp_path):
    """Two models of which one is large enough to be cut while it is pushed."""
    models = make_models("a.tflite", "large.tflite")
    path = tmp_path / "models" / "large.tflite"
    path.write_bytes(path.read_bytes() + bytes(range(256)) * 8000)
    return make_models_again(path, models)


def make_models_again(path, models):
    from keras_hybrid.benchmark.session import find_models

    return [models[0], *find_models([str(path)])]


@pytest.mark.large
def test_disconnect_while_pushing_is_repeated(make_phone, run_on, big_models):
    phone = make_phone()
    phone.faults.drop_after_pushed_bytes = 500_000
    cells = [Cell(model, 1, "cpu") for model in big_models]
    rows, outcome, said = run_on(phone, cells=cells)
    assert outcome.complete, said
    assert statuses(rows) == ["ok", "ok"]
    assert phone.faults.drop_after_pushed_bytes is None, "the fault did not happen"
    assert "plug the device in again" in said
    assert phone.files() == []


@pytest.mark.large
def test_disconnect_during_a_run_is_noted_and_repeated(make_phone, run_on):
    phone = make_phone()
    phone.faults.drop_run = 1
    rows, outcome, said = run_on(phone)
    assert outcome.complete, said
    assert [row.status for row in rows].count("interrupted") == 1
    assert statuses(rows) == ["ok", "ok"]


@pytest.mark.large
def test_unplugged_for_good_then_resumed(make_phone, run_on):
    phone = make_phone()
    original = phone.device.start_shell
    starts = []

    def unplug_at_the_second_run(command, merge):
        if "exec" in command and "run.pid" in command:
            starts.append(command)
            if len(starts) == 2:
                threading.Thread(target=phone.device.unplug).start()
        return original(command, merge)

    phone.device.start_shell = unplug_at_the_second_run
    start = time.monotonic()
    rows, outcome, said = run_on(phone, wait=1.0)
    assert time.monotonic() - start < 60
    assert not outcome.complete and "--resume" in outcome.message
    assert "plug the device in again" in outcome.message
    assert sorted(row.status for row in rows) == ["interrupted", "ok"]
    phone.device.start_shell = original
    phone.device.plug_in()
    assert Adb(phone.serial).wait_until_back(15)
    rows, outcome, said = run_on(phone, resume=True)
    assert outcome.complete, said
    assert statuses(rows) == ["ok", "ok"]
    assert phone.files() == []


@pytest.mark.large
def test_a_phone_that_answers_too_slowly_is_no_hang(make_phone, run_on):
    phone = make_phone()
    phone.faults.slow_seconds = 3.0
    start = time.monotonic()
    rows, outcome, said = run_on(phone, timeout=1.0, wait=0.5)
    assert time.monotonic() - start < 30
    assert not outcome.complete and "does not answer" in outcome.message
    phone.faults.slow_seconds = 0.0
    rows, outcome, said = run_on(phone, resume=bool(rows))
    assert outcome.complete and statuses(rows) == ["ok", "ok"]


@pytest.mark.large
def test_garbage_for_an_answer_is_no_number(make_phone, run_on):
    phone = make_phone()
    phone.faults.garbage_answers = 2
    rows, outcome, said = run_on(phone)
    assert outcome.complete, said
    assert statuses(rows) == ["ok", "ok"]
    assert phone.faults.garbage_answers == 0


@pytest.mark.large
@pytest.mark.parametrize(
    "fault, status, note",
    [
        ("exit", "failed", "ended with status 1"),
        ("crash", "failed", "ended with status 134"),
        ("exit_after_result", "failed", "ended with status 3"),
        ("garbage", "invalid", "not a whole"),
        ("invoke_error", "invalid", "failed to invoke"),
    ],
)
def test_a_failing_program_makes_a_row_that_says_so(make_phone, run_on, fault, status, note):
    phone = make_phone()
    phone.set_standin_faults(**{fault: 1})
    rows, outcome, _ = run_on(phone)
    assert outcome.complete
    assert statuses(rows) == ["ok", "ok"] and len(rows) == 3  # made up for in the same session
    bad = next(row for row in rows if row.status == status)
    assert any(note in text for text in bad.notes), bad.notes
    assert bad.median_ms is None and bad.mean_ms is None


@pytest.mark.large
def test_a_program_that_hangs_is_stopped_on_the_phone(make_phone, run_on):
    phone = make_phone()
    phone.set_standin_faults(hang=1)
    start = time.monotonic()
    rows, outcome, _ = run_on(phone, start_seconds=-7.0)  # 3 s in all
    assert time.monotonic() - start < 30
    assert outcome.complete
    hung = next(row for row in rows if row.status == "failed")
    assert any("did not end within 3 s and was stopped" in note for note in hung.notes)
    assert statuses(rows) == ["ok", "ok"]
    deadline = time.monotonic() + 10
    while phone.device.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not phone.device.running(), "it still runs"


@pytest.mark.large
def test_a_full_phone_ends_with_advice_and_resumes(make_phone, run_on, big_models):
    phone = make_phone()
    phone.faults.full_after_pushed_bytes = 300_000
    cells = [Cell(model, 1, "cpu") for model in big_models]
    rows, outcome, said = run_on(phone, cells=cells)
    assert not outcome.complete and "free space on the device" in outcome.message
    phone.faults.full_after_pushed_bytes = None
    rows, outcome, said = run_on(phone, cells=cells, resume=bool(rows))
    assert outcome.complete and statuses(rows) == ["ok", "ok"]
    assert phone.files() == []


@pytest.mark.large
def test_an_unauthorized_phone_ends_with_advice(make_phone, run_on):
    phone = make_phone()
    phone.faults.unauthorized = True
    phone.device.drop()
    rows, outcome, said = run_on(phone, wait=0.5, timeout=3.0)
    assert not outcome.complete and rows == []
    assert "accept the debugging prompt" in outcome.message or "plug" in outcome.message
    phone.faults.unauthorized = False
    phone.device.drop()
    assert Adb(phone.serial).wait_until_back(15)
    rows, outcome, _ = run_on(phone)
    assert outcome.complete and statuses(rows) == ["ok", "ok"]


@pytest.mark.large
def test_a_reboot_during_a_run_is_seen(make_phone, run_on, make_models):
    phone = make_phone()
    boot = phone.root / "proc/sys/kernel/random/boot_id"
    taskset = phone.root / "bin/taskset"
    original = taskset.read_text()
    taskset.write_text(original.replace("shift;", f"echo 99999999-0000-1111 > {boot}; shift;"))
    cells = [Cell(make_models("a.tflite")[0], 1, "cpu")]
    rows, outcome, said = run_on(phone, cells=cells)
    assert rows[0].status == "interrupted"
    assert "rebooted during the run" in rows[0].notes[0]
    assert rows[1].status == "ok" and outcome.complete


@pytest.mark.large
def test_a_device_that_always_drops_one_model_does_not_loop(make_phone, run_on, make_models):
    phone = make_phone()
    phone.faults.drop_run = 3
    rows, outcome, said = run_on(phone, cells=[Cell(make_models("a.tflite")[0], 1, "cpu")])
    assert [row.status for row in rows] == ["interrupted", "interrupted", "failed"]
    assert outcome.complete


def test_one_lost_phone_does_not_stop_the_other(make_phone, make_models, make_options, tmp_path):
    lost, good = make_phone("lost"), make_phone("good")
    lost.device.unplug()
    said = []
    session = Session(
        tmp_path / "out",
        [Cell(make_models("a.tflite")[0], 1, "cpu")],
        Repetitions(2, 2),
        reconnect_seconds=0.5,
        say=said.append,
    )
    targets = [Phone(Adb(phone.serial, timeout=5), make_options()) for phone in (lost, good)]
    outcomes = {outcome.target: outcome for outcome in session.run(targets)}
    assert outcomes[good.serial].complete and not outcomes[lost.serial].complete
    assert statuses(read_rows(tmp_path / "out/rows.jsonl")) == ["ok", "ok"]


def test_a_silent_server_answers_within_the_limit(make_phone):
    phone = make_phone()
    phone.faults.silent = True
    start = time.monotonic()
    with pytest.raises(AdbError) as caught:
        Adb(phone.serial, timeout=1.0).script("echo hello")
    assert time.monotonic() - start < 5
    assert caught.value.kind == "timeout" and caught.value.device_is_lost


def test_what_adb_says_of_itself_is_no_answer(make_phone, tmp_path):
    phone = make_phone()
    program = tmp_path / "adb"
    program.write_text(
        '#!/bin/sh\necho "adb server version (41) doesn\'t match this client (39); killing..."\n'
        'echo "* daemon started successfully"\nexec adb "$@"\n'
    )
    program.chmod(0o755)
    assert Adb(phone.serial, program=str(program)).run(["echo", "one two"]).output == "one two\n"


def test_a_missing_adb_program_says_how_to_get_it():
    with pytest.raises(AdbError, match="apt-get install adb"):
        Adb("x", program="no-such-adb").script("echo hello")
