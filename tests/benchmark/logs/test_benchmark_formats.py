"""Formats of other tools and builds, other processes' crashes, and time that is bounded."""

import gc
import random
import time

import pytest
from benchmark_logs import FIGURES, LOGS, TIMINGS, as_logcat

from keras_hybrid.benchmark.logs.parser import parse_log


def as_android_studio(log, package="org.tensorflow.lite.benchmark"):
    """The log as Android Studio's window copies it: padded columns, the level before the text."""
    letters = {"INFO": "I", "WARN": "W", "ERROR": "E", "VERBOSE": "V"}
    lines = []
    for line in log.splitlines():
        level, _, text = line.partition(": ")
        text = text if level in letters else line
        lines.append(
            f"2024-07-14 13:23:08.133 25289-25301 {'tflite':<23} {package:<35} "
            f"{letters.get(level, 'I')}  {text}\n"
        )
    return "".join(lines)


def as_old_android_studio(log):
    return "".join(
        f"2019-07-14 13:23:08.133 25289-25301/org.tensorflow.lite.benchmark I/tflite: {line}\n"
        for line in log.replace("INFO: ", "").replace("VERBOSE: ", "").splitlines()
    )


@pytest.mark.parametrize("form", [as_android_studio, as_old_android_studio])
@pytest.mark.parametrize("log", LOGS[:3])
def test_android_studios_columns(form, log):
    whole, found = parse_log(log), parse_log(form(log))
    assert found.valid, found.errors
    for name in FIGURES:
        assert getattr(found, name) == getattr(whole, name)


@pytest.mark.parametrize(
    "position", ["tflite\\tools\\benchmark\\benchmark_model.cc", "D:\\src\\a-b.cc", "a/b+c.cc"]
)
def test_source_positions_with_backslashes(position):
    log = LOGS[0].replace("INFO: ", f"INFO: [{position}:123] ")
    report = parse_log(log)
    assert report.valid, report.errors
    assert report.mean_ms == parse_log(LOGS[0]).mean_ms


@pytest.mark.parametrize(
    "prefix, suffix",
    [("\x1b[32m", "\x1b[0m"), ("2026-01-01T00:00:00.1234567Z ", ""), ("    ", ""), ("", "\r\r"),
     ("07-14 13:23:08.133 +0200  25289 25289 I tflite  : ", "")],
    ids=["colors", "build server", "indented", "old adb", "zone"],
)  # fmt: skip
def test_what_terminals_and_servers_put_around_lines_is_taken_off(prefix, suffix):
    log = "".join(f"{prefix}{line}{suffix}\n" for line in LOGS[0].splitlines())
    found, whole = parse_log(log), parse_log(LOGS[0])
    assert found.valid, found.errors
    assert (found.mean_ms, found.median_ms) == (whole.mean_ms, whole.median_ms)


@pytest.mark.parametrize(
    "spoil",
    [lambda log: log.replace(".", ","), lambda log: log.replace("count=", "count=1,"),
     lambda log: "".join(f"> {line}\n" for line in log.splitlines()),
     lambda log: log.upper(), lambda log: log.replace("\n", "\0\n"),
     lambda log: "\n".join(reversed(log.splitlines())) + "\n",
     lambda log: "".join(f"{line}\n" * 2 for line in log.splitlines()),
     lambda log: "\n".join(log[n : n + 80] for n in range(0, len(log), 80))],
    ids=["commas", "thousands", "quoted", "upper", "null", "reversed", "twice", "wrapped"],
)  # fmt: skip
def test_what_is_not_understood_is_refused(spoil):
    report = parse_log(spoil(LOGS[0]))
    assert not report.valid and report.errors


CRASH = "07-14 13:23:08.100 {pid} {pid} E AndroidRuntime: FATAL EXCEPTION: main\n"


def test_other_apps_crashes_are_not_the_benchmarks():
    log = as_logcat(LOGS[0], pid=25289)
    assert parse_log(CRASH.format(pid=777) + log).valid
    fatal = "07-14 13:23:08.100   900   900 F DEBUG   : Fatal signal 11 (SIGSEGV)\n"
    who = "07-14 13:23:08.100   900   900 F DEBUG   : pid: {}, tid: 1, name: x  >>> x <<<\n"
    assert parse_log(who.format(777) + fatal + log).valid
    assert not parse_log(CRASH.format(pid=25289) + log).valid
    assert not parse_log(who.format(25289) + fatal + log).valid


def test_a_crash_before_the_first_line_is_seen():
    log = (
        CRASH.format(pid=5)
        + "07-14 13:23:08.1 5 5 E AndroidRuntime: Process: org.tensorflow.lite.benchmark, PID: 5\n"
    )
    assert any("FATAL EXCEPTION" in error for error in parse_log(log).errors)


def test_the_old_peak_is_no_growth():
    old = parse_log(TIMINGS + "Peak memory footprint (MB): init=11.5 overall=12.8672\n")
    assert (old.init_memory_mb, old.peak_memory_mb) == (None, 12.8672)


WORDS = [
    "first=", "curr=", "p5=", "median=", "TfLite", "Delegate", "[node type]", "[first]", "[avg ms]",
    "1.000", "100.000%", "count=", "1", "word ", " ", "\t", "\n", ": ", ": [", "]", "(", "ERROR: ",
    "acceleration", "No such file", "[a/", ".cc:", "07-14 13:23:08.133 ", "=====", "Replacing ",
    "I/", "pid: 1", "Primary graph", "Number of nodes executed: ", "é", "\r\n", "- ", "e+06",
    "a", ".", "I0000 00:00:1.5 42 a.cc:3] ", "Profiling Info for Benchmark Initialization:",
    "Though ", "Following operations are not supported by GPU delegate:", " --x",
]  # fmt: skip
HEADER = (
    "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
    "[node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]\n"
)


def seconds(text):
    """Processor time, without what the collector spends on other tests' objects."""
    gc.disable()
    try:
        start = time.process_time()
        parse_log(text)
        return time.process_time() - start
    finally:
        gc.enable()


@pytest.mark.parametrize("prefix", ["", HEADER, "INFO: ", "x "], ids=["bare", "table", "info", "x"])
def test_a_line_of_one_repeated_word_is_read_in_bounded_time(prefix):
    for word in WORDS:
        text = prefix + word * (50_000 // len(word))
        assert seconds(text) < 0.5, word


def test_a_megabyte_of_any_text_is_read_in_two_seconds():
    generator = random.Random(0)
    for number in range(6):
        words = generator.sample(WORDS, 3 + number)
        pieces = []
        size = 0
        while size < 1_000_000:
            pieces.append(generator.choice(words) * generator.choice([1, 1, 3, 50]))
            size += len(pieces[-1])
        assert seconds(HEADER * (number % 2) + "".join(pieces)) < 2.0, words


def test_the_initialization_is_split_as_the_program_does():
    log = LOGS[1]
    split = parse_log(log).initialization
    assert split == {"ModifyGraphWithDelegate": 2.5, "AllocateTensors": 0.25}
    assert parse_log(LOGS[0]).initialization == {}
    assert parse_log(as_logcat(log)).initialization == split
    cut = log[: log.index("ModifyGraphWithDelegate/0") + 8]
    assert parse_log(cut).initialization == {}


def test_abseils_log_is_read():
    line = "{}0000 00:00:1766442000.123456    4242 run_model.cc:301] Failed to run the model\n"
    assert parse_log(line.format("E")).failures == ("Failed to run the model",)
    assert parse_log(LOGS[0] + line.format("W")).valid


def test_digits_without_end_are_no_number():
    for text in (
        f"count={'9' * 9000} curr=5\n",
        f"Number of nodes executed: {'9' * 9000}\n",
        f"VERBOSE: Replacing {'9' * 9000} node(s) with delegate (A) node, yielding 2 partitions.\n",
    ):
        assert parse_log(text).runs is None
