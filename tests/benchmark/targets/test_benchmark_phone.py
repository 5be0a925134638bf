"""Runs on phones, through the real adb client and a device daemon on loopback."""

import pytest
from fake_phone import write_apk, write_benchmark_model, write_elf

from keras_hybrid.benchmark.plan import Cell, Repetitions
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.session import Session
from keras_hybrid.benchmark.targets.adb import Adb, list_devices
from keras_hybrid.benchmark.targets.app import AppPhone
from keras_hybrid.benchmark.targets.device_state import Rules
from keras_hybrid.benchmark.targets.phone import Phone
from keras_hybrid.benchmark.targets.tool_flags import DELEGATES, custom_delegate


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


def test_binary_and_models_are_pushed_once(make_phone, run_on):
    phone = make_phone()
    run_on(phone, repetitions=2)
    assert len(phone.device.pushed) == len(set(phone.device.pushed)) == 3


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


def test_the_binary_for_the_devices_abi_is_chosen(make_phone, run_on, binary, tmp_path):
    other = write_elf(tmp_path / "riscv", b"\x90", 243)
    rows, outcome, _ = run_on(make_phone(), binaries=(str(other), str(binary)))
    assert outcome.complete and {row.status for row in rows} == {"ok"}


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
    assert rows[0].binary["flavour"] == "apk"
    assert not (phone.root / "app").exists() and phone.files() == []
    assert not [path for path in phone.root.rglob("*") if path.name == "x"]


def test_app_route_reports_errors_of_the_app(make_phone, run_app, tmp_path):
    phone = make_phone()
    (phone.root / "app").touch()
    phone.set_standin_faults(exit=True)
    rows, _ = run_app(phone, apk=None)
    assert rows[0].status == "invalid"
    assert any("Failed to allocate tensors" in note for note in rows[0].notes)
    assert (phone.root / "app").exists()  # it was there before


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
