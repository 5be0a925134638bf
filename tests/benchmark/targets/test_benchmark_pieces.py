"""The pieces that look at binaries, flags, device states and names of layers."""

import pytest
from fake_phone import write_benchmark_model, write_elf

from keras_hybrid.benchmark.health import device_state
from keras_hybrid.benchmark.targets import binaries, tool_flags
from keras_hybrid.benchmark.targets.delegates import DELEGATES, custom_delegate
from keras_hybrid.benchmark.targets.tool_flags import Flavour, Protocol
from keras_hybrid.benchmark.verdict import judge


@pytest.mark.parametrize(
    "machine, loader, abi, system",
    [
        (183, b"/system/bin/linker64\0", "arm64-v8a", "android"),
        (62, b"/lib64/ld-linux-x86-64.so.2\0", "x86_64", "linux"),
        (243, b"", "riscv64", None),
    ],
)
def test_elf_headers(tmp_path, machine, loader, abi, system):
    found = binaries.read_executable(write_elf(tmp_path / "x", b"\x90", machine, loader))
    assert (found.abi, found.system) == (abi, system)


def test_a_program_for_linux_is_refused_for_android(tmp_path):
    path = write_elf(tmp_path / "x", b"\x90", 183, b"/lib/ld-linux-aarch64.so.1\0")
    with pytest.raises(ValueError, match="built for Linux"):
        binaries.check_for_android(path, ["arm64-v8a"])
    with pytest.raises(ValueError, match="device's ABIs .'armeabi-v7a'"):
        binaries.check_for_android(path, ["armeabi-v7a"])
    assert binaries.check_for_host(path, "aarch64").abi == "arm64-v8a"
    with pytest.raises(ValueError, match="Linux on x86_64"):
        binaries.check_for_host(path, "x86_64")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"PK\x03\x04", "--apk"),
        (b"<html>", "failed download"),
        (b"\x7fELF\x02\x01", "cut or broken"),
        (b"\x7fELF\x07" + b"\0" * 60, "cut or broken"),
        (b"", "another kind"),
    ],
)
def test_what_is_no_program_is_refused(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        binaries.read_executable(tmp_path / "x")


def test_missing_binary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a file"):
        binaries.read_executable(tmp_path / "none")


def help_of(flavour, tmp_path):
    import subprocess

    program = write_benchmark_model(tmp_path, flavour)
    done = subprocess.run([program, "--help"], capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("flavour", ["classic", "litert"])
def test_flavours_are_told_apart_by_their_help(tmp_path, flavour):
    found = tool_flags.detect_flavour(help_of(flavour, tmp_path))
    assert found.name == flavour and "num_threads" in found.known_flags


def test_other_programs_are_refused():
    with pytest.raises(ValueError, match="usage: ls"):
        tool_flags.detect_flavour("usage: ls\n --color=never\n")


def flags_for(flavour, delegate="cpu", known=frozenset(), **changes):
    return tool_flags.command_flags(
        Flavour(flavour, known),
        Protocol(),
        DELEGATES[delegate],
        **{"graph": "/g", "num_threads": 4, **changes},
    )


def test_each_flavour_gets_its_own_flags():
    classic, litert = flags_for("classic", profile=True), flags_for("litert", profile=True)
    assert "--use_xnnpack=true" in classic and "--enable_op_profiling=true" in classic
    assert "--use_cpu=true" in litert and "--use_profiler=true" in litert
    assert not any("xnnpack" in flag or "op_profiling" in flag for flag in litert)
    assert "--num_threads=4" in classic and "--graph=/g" in classic


def test_an_extra_flag_takes_the_place_of_the_harness_own():
    known = frozenset({"report_peak_memory_footprint", "graph", "num_threads", "use_xnnpack",
                       *(f"{n}{s}" for n in ("min", "max") for s in ("_secs",)),
                       "warmup_runs", "warmup_min_secs", "num_runs"})  # fmt: skip
    assert "--report_peak_memory_footprint=true" in flags_for("classic", known=known)
    off = ("--report_peak_memory_footprint=false",)
    flags = flags_for("classic", known=known, extra=off)
    assert [flag for flag in flags if "peak" in flag] == list(off)
    with pytest.raises(ValueError, match="Model and threads"):
        flags_for("classic", extra=("--num_threads=8",))


@pytest.mark.parametrize("flavour, delegate", [("litert", "nnapi"), ("classic", "npu")])
def test_delegates_that_a_flavour_lacks_are_refused(flavour, delegate):
    with pytest.raises(ValueError, match="needs a benchmark_model of flavour"):
        flags_for(flavour, delegate)


@pytest.mark.parametrize("flag", ["num_runs=3", "--verbose", "-x=1", "--a b=c"])
def test_flags_of_another_form_are_refused(flag):
    with pytest.raises(ValueError, match="form --name=value"):
        flags_for("classic", extra=(flag,))


@pytest.mark.parametrize(
    "definition", ["", "dsp", "cpu --x=1", "a;b --x=1", "dsp x=1", 'dsp "--x=1']
)
def test_broken_custom_delegates_are_refused(definition):
    with pytest.raises(ValueError, match="A delegate is defined as"):
        custom_delegate(definition)


@pytest.mark.parametrize("changes", [(0, 1, 1, 1, 1), (1, 1, 0, 1, 1), (1, 1, 1, 5, 1)])
def test_impossible_protocols_are_refused(changes):
    with pytest.raises(ValueError, match="Received"):
        Protocol(*changes)


def core(number, top, **changes):
    values = dict(online=True, governor="x", frequency=top, allowed_maximum=top)
    return device_state.Core(
        **{"number": number, **values, "hardware_maximum": top, "capacity": None, **changes}
    )


def test_big_cores_are_whole_clusters_from_the_top():
    cores = (*(core(n, 1800) for n in range(4)), *(core(n, 2400) for n in (4, 5, 6)), core(7, 3000))
    assert device_state.big_cores(cores, 1) == [7]
    assert device_state.big_cores(cores, 2) == [4, 5, 6, 7]
    assert device_state.big_cores(cores, 5) == list(range(8))
    off = (*cores[:7], core(7, 3000, online=False))
    assert device_state.big_cores(off, 1) == [4, 5, 6]
    by_capacity = tuple(core(n, 2000, capacity=c) for n, c in enumerate((300, 1024)))
    assert device_state.big_cores(by_capacity, 1) == [1]
    assert device_state.big_cores((core(0, None),), 1) == []
    assert [device_state.cpu_mask(n) for n in ([7], [4, 5, 6, 7], [0])] == ["80", "f0", "1"]


def test_states_with_little_in_them_are_read():
    state = device_state.parse_state("@battery\n@thermal\n@cpu\n0 - - - - - -\n@end\n")
    assert state.battery_c is None and state.thermal_status is None and len(state.cores) == 1
    assert device_state.Rules().objections(state) == []
    with pytest.raises(ValueError, match="cut"):
        device_state.parse_state("@battery\n level: 5\n")


def test_rules_object_to_load_and_to_an_empty_battery():
    text = (
        "@battery\n  level: 5\n  USB powered: false\n@load\n9.5 1 1 1/1 1\n"
        "@cpu\n0 1 - - - - -\n@end\n"
    )
    reasons = device_state.Rules().objections(device_state.parse_state(text))
    assert reasons == ["load 9.5 on 1 cores", "battery level 5%"]
    charging = device_state.parse_state(text.replace("false", "true"))
    assert device_state.Rules().objections(charging) == ["load 9.5 on 1 cores"]


def test_judge_refuses_other_thread_counts_and_ignored_flags():
    log = (
        "INFO: Num threads: [1]\nWARN: Unconsumed cmdline flags: --use_cpu=true\n"
        "INFO: Inference timings in us: Init: 5, First inference: 6, Warmup (avg): 6, "
        "Inference (avg): 5.5\n"
    )
    fields = judge(log, exit_status=0, delegate=DELEGATES["cpu"], num_threads=4)
    assert fields["status"] == "invalid" and "mean_ms" not in fields
    assert any("1 threads, not 4" in note for note in fields["notes"])
    assert any("--use_cpu=true" in note for note in fields["notes"])


def test_a_log_that_does_not_name_the_gpu_is_not_reported_as_gpu():
    log = (
        "Inference timings in us: Init: 5, First inference: 6, Warmup (avg): 6, "
        "Inference (avg): 5.5\n"
    )
    for delegate, status in (("gpu", "fell_back"), ("nnapi", "fell_back"), ("cpu", "ok")):
        fields = judge(log, exit_status=0, delegate=DELEGATES[delegate], num_threads=1)
        assert fields["status"] == status
