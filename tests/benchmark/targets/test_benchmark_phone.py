"""Runs on phones, through the real adb client and a device daemon on loopback."""

import dataclasses
import socket

import pytest
from fake_phone import write_apk, write_benchmark_model, write_elf

from keras_hybrid.benchmark.health.device_state import Rules
from keras_hybrid.benchmark.plan import Cell, Repetitions
from keras_hybrid.benchmark.results.tables import device_label
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.session import Session
from keras_hybrid.benchmark.targets.adb import Adb, list_devices, run_adb
from keras_hybrid.benchmark.targets.app import AppPhone
from keras_hybrid.benchmark.targets.delegates import DELEGATES, custom_delegate
from keras_hybrid.benchmark.targets.phone import Phone


@pytest.mark.large
def test_a_run_is_measured_pinned_described_and_cleaned_up(make_phone, run_on, tmp_path):
    phone = make_phone()
    rows, outcome, _ = run_on(phone)
    assert outcome.complete, outcome
    assert [row.status for row in rows] == ["ok", "ok"]
    assert phone.files() == []
    row = rows[0]
    assert (row.device["model"], row.device["soc"]) == ("Fake Phone 7", "SoC 9")
    assert row.device["fingerprint"].startswith("fake/phone")
    assert row.binary["flavour"] == "classic" and len(row.binary["sha256"]) == 64
    assert (row.delegated_nodes, row.total_nodes, row.partitions) == (7, 7, 1)
    assert row.peak_memory_mb == 12.25
    assert row.min_ms <= row.median_ms <= row.max_ms and row.runs >= 10
    assert row.cpu_mask == "f0"  # the four big cores
    assert set((phone.root / "masks").read_text().split()) == {"f0"}
    state = row.state_before
    assert (state["thermal_status"], state["battery_c"], state["screen_on"]) == (0, 29.5, True)
    assert state["cores"][4]["governor"] == "schedutil"
    log = (tmp_path / "out" / row.log).read_text()
    assert "Inference timings in us" in log


@pytest.mark.large
def test_binary_and_models_are_pushed_once(make_phone, run_on):
    phone = make_phone()
    run_on(phone, repetitions=2)
    assert len(phone.device.pushed) == len(set(phone.device.pushed)) == 3


@pytest.mark.large
def test_files_stay_if_asked_and_are_not_pushed_again(make_phone, run_on, tmp_path, make_models):
    phone = make_phone()
    cells = [Cell(model, 1, "cpu") for model in make_models("a.tflite")]
    run_on(phone, cells=cells, keep_files=True)
    assert len([name for name in phone.files() if name.endswith(".tflite")]) == 1
    phone.device.pushed.clear()
    run_on(phone, cells=cells, resume=True, repetitions=2)
    assert phone.device.pushed == [] and phone.files() == []


def test_litert_flavour_is_detected_and_spoken(make_phone, run_on, tmp_path, make_models):
    program = write_benchmark_model(tmp_path, "litert")
    models = make_models("a.tflite")
    cells = [Cell(models[0], 2, "cpu"), Cell(models[0], 2, "gpu")]
    rows, _, _ = run_on(make_phone(), cells=cells, binaries=(str(program),))
    assert [row.status for row in rows] == ["ok", "ok"], rows
    assert {row.binary["flavour"] for row in rows} == {"litert"}
    for row in rows:
        assert not any("xnnpack" in flag for flag in row.command)
        assert row.median_ms and row.peak_memory_mb == 12.25


@pytest.mark.large
def test_the_old_shell_service_works_too(make_phone, run_on):
    rows, outcome, _ = run_on(make_phone(shell_v2=False))
    assert outcome.complete
    assert [row.status for row in rows] == ["ok", "ok"]


@pytest.mark.parametrize("flag", ["--nonsense=1", "--gpu_backend=cl"])
def test_unknown_flags_are_refused_before_models_are_pushed(make_phone, run_on, flag):
    phone = make_phone()
    rows, outcome, _ = run_on(phone, extra_flags=(flag,))
    assert not outcome.complete
    assert "would ignore it" in outcome.message and flag in outcome.message
    assert rows == []
    assert not any(path.endswith(".tflite.part") for path in phone.device.pushed)


@pytest.mark.parametrize(
    "fault, status, note",
    [
        ("gpu_unsupported", "fell_back", "GPU acceleration is unsupported"),
        ("gpu_refuses", "invalid", "No operations will run on the GPU"),
        ("gpu_partial", "ok", "left to the CPU: BATCH_MATMUL"),
    ],
)
def test_a_delegate_that_fails_is_not_reported_as_that_delegate(
    make_phone, run_on, make_models, fault, status, note
):
    phone = make_phone()
    phone.set_standin_faults(**{fault: True})
    rows, _, _ = run_on(phone, cells=[Cell(make_models("a.tflite")[0], 1, "gpu")])
    assert rows[0].status == status, rows[0].notes
    assert any(note in text for text in rows[0].notes)
    if fault == "gpu_partial":
        assert (rows[0].delegated_nodes, rows[0].total_nodes, rows[0].partitions) == (6, 7, 3)
    if fault == "gpu_refuses":
        assert rows[0].median_ms is None


def test_custom_delegate_gets_its_flags_unbroken(make_phone, run_on, make_models, tmp_path):
    delegate = custom_delegate('dsp:Hexagon --use_hexagon=true "--hexagon_lib_path=/a b;$(id)"')
    rows, _, _ = run_on(
        make_phone(),
        cells=[Cell(make_models("a.tflite")[0], 1, "dsp")],
        delegates={**DELEGATES, "dsp": delegate},
    )
    assert "--hexagon_lib_path=/a b;$(id)" in rows[0].command
    assert rows[0].status == "fell_back"  # the stand-in's log names no such delegate
    assert not any("ignored" in note for note in rows[0].notes)


HOSTILE = ["a b;$(touch x).tflite", "`touch y`.tflite", "-rf.tflite", "q'\"&& touch z #.tflite"]


@pytest.mark.large
def test_hostile_names_are_run_and_reported_and_nothing_is_executed(
    make_phone, run_on, make_models
):
    phone = make_phone()
    cells = [Cell(model, 1, "cpu") for model in make_models(*HOSTILE)]
    rows, outcome, _ = run_on(phone, cells=cells)
    assert outcome.complete
    assert {row.model for row in rows} == set(HOSTILE)
    assert {row.status for row in rows} == {"ok"}
    assert phone.files() == []
    assert not [path for path in phone.root.rglob("*") if path.name in ("x", "y", "z")]
    assert not any("touch" in command for command in phone.device.commands)


def test_hostile_flags_reach_the_program_as_they_are(make_phone, run_on, make_models, tmp_path):
    phone = make_phone()
    flag = "--hexagon_lib_path=$(touch pwned); `touch pwned` ' \" | & \\ *"
    rows, _, _ = run_on(
        phone, cells=[Cell(make_models("a.tflite")[0], 1, "cpu")], extra_flags=(flag,)
    )
    assert rows[0].status == "ok"
    assert flag in rows[0].command
    assert not [path for path in phone.root.rglob("*") if path.name.startswith("pwned")]


def test_wrong_abi_is_refused_before_pushing(make_phone, run_on, tmp_path):
    phone = make_phone()
    mips = write_elf(tmp_path / "mips", b"\x90", 8)
    other = write_elf(tmp_path / "riscv", b"\x90", 243)
    for program, reason in ((mips, "ELF machine 8"), (other, "built for riscv64")):
        rows, outcome, _ = run_on(phone, binaries=(str(program),))
        assert not outcome.complete and reason in outcome.message
        assert rows == [] and phone.device.pushed == []


@pytest.mark.large
def test_the_binary_for_the_devices_abi_is_chosen(make_phone, run_on, binary, tmp_path):
    other = write_elf(tmp_path / "riscv", b"\x90", 243)
    rows, outcome, _ = run_on(make_phone(), binaries=(str(other), str(binary)))
    assert outcome.complete and {row.status for row in rows} == {"ok"}


@pytest.mark.large
def test_heat_before_a_run_is_waited_for_and_then_marked(make_phone, run_on, make_models):
    phone = make_phone()
    phone.set_health(thermal_status=2, battery_c=44.0)
    rows, _, said = run_on(
        phone,
        cells=[Cell(make_models("a.tflite")[0], 1, "cpu")],
        rules=Rules(cooldown_seconds=2.0, poll_seconds=0.1),
    )
    waits = said.count("waiting up to 2 s until the device is fit: thermal status 2")
    assert waits == len(rows) > 1  # made up for, in vain
    assert rows[0].status == "throttled"
    assert any("thermal status 2" in note for note in rows[0].notes)
    assert any("battery at 44 C" in note for note in rows[0].notes)
    assert rows[0].median_ms  # measured, but marked
    assert sum("dumpsys thermalservice" in command for command in phone.device.commands) >= 3


@pytest.mark.large
def test_throttling_during_a_run_marks_it_and_resume_repeats_it(make_phone, run_on, make_models):
    phone = make_phone()
    capped = phone.root / "sys/devices/system/cpu/cpu5/cpufreq/scaling_max_freq"
    taskset = phone.root / "bin/taskset"
    original = taskset.read_text()
    taskset.write_text(original.replace("shift;", f"echo 1000000 > {capped}; shift;"))
    cells = [Cell(make_models("a.tflite")[0], 1, "cpu")]
    rows, outcome, _ = run_on(phone, cells=cells)
    assert {row.status for row in rows} == {"throttled"}
    assert any("cores [5] were capped" in note for note in rows[0].notes)
    throttled = len(rows)
    taskset.write_text(original)
    capped.write_text("3000000\n")
    rows, outcome, _ = run_on(phone, cells=cells, resume=True)
    assert [row.status for row in rows[throttled:]] == ["ok"]
    assert outcome.complete


@pytest.mark.parametrize("cores, mask", [("all", None), ("3", "3")])
def test_cores_can_be_chosen(make_phone, run_on, make_models, cores, mask):
    cells = [Cell(make_models("a.tflite")[0], 1, "cpu")]
    rows, _, _ = run_on(make_phone(), cells=cells, cores=cores)
    assert rows[0].cpu_mask == mask and rows[0].status == "ok"


def test_profile_runs_are_rows_of_their_own(make_phone, run_on, make_models):
    model = make_models("a.tflite")[0]
    cells = [Cell(model, 1, delegate, "profile") for delegate in ("builtin", "cpu")]
    rows, _, _ = run_on(make_phone(), cells=cells)
    assert [row.status for row in rows] == ["ok", "ok"], rows
    by_delegate = {row.delegate: row for row in rows}
    assert len(by_delegate["cpu"].profile) == 7
    assert by_delegate["cpu"].profile[0]["name"] == "Delegate/Convolution (NHWC, F32) IGEMM:0"
    assert by_delegate["builtin"].profile[0]["name"] == "[model/stem_conv_1/op]:0"


@pytest.fixture
def run_app(tmp_path, make_models, make_options):
    def start(phone, *, apk, delegate="cpu", **options):
        cells = [Cell(make_models("a b;$(touch x).tflite")[0], 2, delegate)]
        options = make_options(binaries=(), **options)
        target = AppPhone(Adb(phone.serial), options, apk=apk, poll_seconds=0.1)
        session = Session(tmp_path / "out", cells, Repetitions(1, 1), say=lambda text: None)
        outcome = session.run([target])[0]
        path = tmp_path / "out" / "rows.jsonl"
        return (read_rows(path) if path.exists() else []), outcome

    return start


def test_app_route_installs_runs_reads_logcat_and_uninstalls(make_phone, run_app, tmp_path):
    phone = make_phone()
    rows, outcome = run_app(phone, apk=str(write_apk(tmp_path / "b$(touch x).apk")))
    assert outcome.complete, outcome
    assert rows[0].status == "ok", rows[0].notes
    assert rows[0].num_threads == 2 and rows[0].median_ms and rows[0].peak_memory_mb is None
    assert rows[0].binary["flavour"] == "apk" and rows[0].during["clock_khz"]["4"][1] == 1500000
    assert not (phone.root / "app").exists() and phone.files() == []
    assert not [path for path in phone.root.rglob("*") if path.name == "x"]


@pytest.mark.large
def test_app_route_reports_errors_of_the_app(make_phone, run_app, tmp_path):
    phone = make_phone()
    (phone.root / "app").touch()
    phone.set_standin_faults(exit=True)
    rows, _ = run_app(phone, apk=None)
    assert rows[0].status == "invalid"
    assert any("Failed to allocate tensors" in note for note in rows[0].notes)
    assert (phone.root / "app").exists()  # it was there before


@pytest.mark.large
def test_app_that_never_reports_ends_at_the_limit(make_phone, run_app):
    phone = make_phone()
    (phone.root / "app").touch()
    (phone.root / "bin/am").write_text("#!/bin/sh\n")
    phone_options = {"start_seconds": -8.5}  # 1.5 s in all
    rows, _ = run_app(phone, apk=None, **phone_options)
    assert rows[0].status == "failed"
    assert any("no result within 1.5 s" in note for note in rows[0].notes)


def test_app_route_refuses_what_it_cannot_do(make_phone, run_app):
    phone = make_phone()
    rows, outcome = run_app(phone, apk=None)
    assert "not installed" in outcome.message and rows == []
    (phone.root / "app").touch()
    rows, outcome = run_app(phone, apk=None, extra_flags=("--hexagon_lib_path=/a b",))
    assert "blanks" in outcome.message and rows == []


def test_devices_are_listed_with_their_state(make_phone):
    phone = make_phone()
    assert [(d.serial, d.state) for d in list_devices()] == [(phone.serial, "device")]


def test_no_binary_is_a_clear_error(make_phone, run_on):
    rows, outcome, _ = run_on(make_phone(), binaries=())
    assert "--benchmark_binary" in outcome.message and rows == []


def test_phone_refuses_impossible_cores(make_options):
    with pytest.raises(ValueError, match="Received: cores='big; reboot'"):
        make_options(cores="big; reboot")
    assert Phone.target == "android"


def one_cell(make_models, delegate="cpu"):
    return [Cell(make_models("a.tflite")[0], 1, delegate)]


def test_one_phone_over_two_transports_is_measured_once(
    make_phone, make_models, make_options, tmp_path
):
    """By the lock on the phone: this one tells no serial number."""
    phone = make_phone()
    other = phone.serial.replace("127.0.0.1", "localhost")
    run_adb(["adb", "connect", other], 20)
    said = []
    session = Session(tmp_path / "out", one_cell(make_models), Repetitions(2, 2), say=said.append)
    targets = [Phone(Adb(name), make_options(), say=said.append) for name in (phone.serial, other)]
    outcomes = session.run(targets)
    assert all(outcome.complete for outcome in outcomes), outcomes
    rows = read_rows(tmp_path / "out/rows.jsonl")
    assert [row.status for row in rows] == ["ok", "ok"]
    assert sum("same phone" in line or "same device" in line for line in said) == 1
    assert phone.files() == []


def test_the_serial_number_names_a_phone_whatever_reaches_it(make_phone, run_on, make_models):
    phone = make_phone(properties={"ro.serialno": "R58M1"}.items())
    rows, _, _ = run_on(phone, cells=one_cell(make_models))
    assert rows[0].device_id == "R58M1" and rows[0].device["transport"] == phone.serial


@pytest.mark.large
def test_another_harness_is_waited_for_and_a_dead_one_is_not(make_phone, run_on, make_models):
    phone = make_phone()
    cells = one_cell(make_models)
    lock = phone.root / "data/local/tmp/keras_hybrid_benchmark.lock"

    def words(*parts):
        return ":".join(part.encode().hex() for part in parts)

    lock.mkdir()
    (lock / "owner").write_text(f"{words('elsewhere', '1', 'x', 'usb')} 99999999999\n")
    rows, outcome, _ = run_on(phone, cells=cells, lock_seconds=0.1)
    assert rows == [] and "another harness (process 1 on elsewhere)" in outcome.message
    assert lock.is_dir()  # it is not ours to remove
    assert not any("kill" in command for command in phone.device.commands)  # nor is its run
    (lock / "owner").write_text(f"{words('elsewhere', '1', 'x', 'usb')} 5\n")  # long ago
    rows, outcome, _ = run_on(phone, cells=cells, lock_seconds=0.1, resume=True)
    assert [row.status for row in rows] == ["ok"] and not lock.exists()
    lock.mkdir()
    dead = words(socket.gethostname(), "999999999", "x", "usb")
    (lock / "owner").write_text(f"{dead} 99999999999\n")
    rows, outcome, _ = run_on(phone, cells=cells, lock_seconds=0.1, resume=True, repetitions=2)
    assert [row.status for row in rows] == ["ok", "ok"]


def test_cores_capped_before_the_run_mark_it(make_phone, run_on, make_models):
    phone = make_phone()
    for number in range(4, 8):
        path = phone.root / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_max_freq"
        path.write_text("1200000\n")
    rows, _, _ = run_on(phone, cells=one_cell(make_models))
    assert {row.status for row in rows} == {"throttled"}
    assert "before: cores [4, 5, 6, 7] are capped" in rows[0].notes


def test_a_phone_that_tells_nothing_of_its_health_says_so(make_phone, run_on, make_models):
    phone = make_phone()
    (phone.root / "bin/dumpsys").unlink()
    (phone.root / "proc/loadavg").unlink()
    rows, _, _ = run_on(phone, cells=one_cell(make_models))
    assert rows[0].status == "ok"
    note = next(note for note in rows[0].notes if note.startswith("not known of the phone"))
    assert note.endswith("thermal status, battery temperature, load")


def test_an_emulator_is_called_one(make_phone, run_on, make_models):
    phone = make_phone(properties={"ro.hardware": "ranchu"}.items())
    rows, _, _ = run_on(phone, cells=one_cell(make_models))
    assert rows[0].device["emulator"] and any("an emulator" in note for note in rows[0].notes)
    assert device_label(rows[0]).endswith("emulator")


@pytest.mark.large
def test_the_app_with_the_screen_off_is_marked(make_phone, run_app):
    phone = make_phone()
    (phone.root / "app").touch()
    (phone.root / "dumpsys/power").write_text("  mWakefulness=Asleep\n")
    rows, _ = run_app(phone, apk=None)
    assert {row.status for row in rows} == {"throttled"}
    assert any("the screen" in note for note in rows[0].notes)


def test_a_cpu_run_that_an_extra_flag_takes_elsewhere_is_no_cpu_row(
    make_phone, run_on, make_models
):
    rows, _, _ = run_on(make_phone(), cells=one_cell(make_models), extra_flags=("--use_gpu=true",))
    assert {row.status for row in rows} == {"fell_back"}
    assert any("not asked for" in note for note in rows[0].notes)


@pytest.mark.large
def test_a_finished_run_is_kept_when_the_state_after_it_cannot_be_read(
    make_phone, run_on, make_models
):
    phone = make_phone()
    taskset = phone.root / "bin/taskset"
    taskset.write_text(taskset.read_text().replace("shift;", 'touch "$PHONE/ran"; shift;'))
    (phone.root / "bin/dumpsys").write_text(
        '#!/bin/sh\n[ -e "$PHONE/ran" ] && { rm "$PHONE/ran"; sleep 6; }\n'
        'cat "$PHONE/dumpsys/$1" 2>/dev/null\n'
    )
    rows, outcome, _ = run_on(phone, cells=one_cell(make_models), timeout=2.0)
    assert outcome.complete and [row.status for row in rows] == ["ok"]
    assert any("the state after the run could not be read" in note for note in rows[0].notes)
    assert rows[0].median_ms and rows[0].state_after == {}


def test_what_may_not_be_executed_is_named(make_phone, run_on, make_models):
    phone = make_phone()
    (phone.root / "bin/chmod").write_text("#!/bin/sh\nexit 0\n")
    (phone.root / "bin/chmod").chmod(0o755)
    rows, outcome, _ = run_on(phone, cells=one_cell(make_models))
    assert rows == [] and "noexec" in outcome.message and "SELinux" in outcome.message


@pytest.mark.large
def test_vendors_libraries_lie_beside_the_program(make_phone, run_on, make_models, tmp_path):
    phone = make_phone()
    library = tmp_path / "libvendor_dsp.so"
    library.write_bytes(b"\x7fELF library")
    delegate = dataclasses.replace(
        custom_delegate("dsp --hexagon_lib_path={folder}"), libraries=("libvendor",)
    )
    cells = one_cell(make_models, "dsp")
    options = {"delegates": {**DELEGATES, "dsp": delegate}}
    rows, outcome, _ = run_on(phone, cells=cells, **options)
    assert rows == [] and "--library" in outcome.message
    rows, _, _ = run_on(phone, cells=cells, resume=True, libraries=(str(library),), **options)
    folder = "/data/local/tmp/keras_hybrid_benchmark"
    assert f"--hexagon_lib_path={folder}" in rows[0].command
    (command,) = [text for text in phone.device.commands if "exec" in text and "run.pid" in text]
    assert f"LD_LIBRARY_PATH={folder} " in command
    assert any("libvendor_dsp.so" in path for path in phone.device.pushed)
    assert phone.files() == []


@pytest.mark.large
def test_fixed_performance_is_asked_for_recorded_and_given_back(make_phone, run_on, make_models):
    phone = make_phone()
    cells = one_cell(make_models)
    rows, _, said = run_on(phone, cells=cells, fixed_performance=True)
    assert rows[0].device["fixed_performance"] is False and "no fixed performance" in said
    (phone.root / "bin/cmd").write_text('#!/bin/sh\necho "$3" >> "$PHONE/fixed"\n')
    (phone.root / "bin/cmd").chmod(0o755)
    rows, _, _ = run_on(phone, cells=cells, fixed_performance=True, resume=True)
    assert len(rows) == 2 and rows[1].device["fixed_performance"] is True  # measured anew
    assert (phone.root / "fixed").read_text().split() == ["true", "false"]


@pytest.mark.large
def test_sustained_heat_is_no_flaw_of_a_sustained_row(make_phone, run_on, make_models):
    phone = make_phone()
    phone.set_health(thermal_status=2)
    cells = [dataclasses.replace(one_cell(make_models)[0], kind="sustained")]
    rows, outcome, _ = run_on(phone, cells=cells, minutes=0.05)
    assert outcome.complete and len(rows) >= 2
    assert {(row.kind, row.status) for row in rows} == {("sustained", "ok")}
    assert any("thermal status 2" in note for note in rows[0].notes)
