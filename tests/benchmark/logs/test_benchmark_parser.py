"""Logs are read to the right numbers, or to none."""

import random
import re

import pytest
from benchmark_logs import (
    FIGURES,
    LOGS,
    TIMINGS,
    as_logcat,
    as_old_build,
    assert_same_or_nothing,
    make_log,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_hybrid.benchmark.logs.parser import parse_log


@pytest.mark.parametrize("log", LOGS)
def test_whole_logs_are_valid(log):
    report = parse_log(log)
    assert report.valid, report.errors
    assert report.parameters["Num threads"] == "2"
    line = [line for line in log.splitlines() if "count=" in line and "median=" in line][1]
    printed = dict(word.split("=") for word in line.removeprefix("INFO: ").split())
    assert report.runs == int(printed["count"])
    assert report.median_ms == float(printed["median"]) / 1000
    assert report.mean_ms == float(printed["avg"]) / 1000
    assert report.p95_ms == float(printed["p95"]) / 1000
    assert report.flavour == ("litert" if "BENCHMARK RESULTS" in log else "classic")
    named = {delegation.delegate for delegation in report.delegations}
    assert named == ({"TfLiteXNNPackDelegate"} if "Replacing" in log else set())


def test_numbers_in_scientific_notation():
    assert "e+06" in LOGS[2]
    assert parse_log(LOGS[2]).mean_ms > 1000


@pytest.mark.parametrize("log", LOGS[:3])
def test_logcat_and_old_builds_give_the_same_numbers(log):
    whole = parse_log(log)
    logcat = parse_log(as_logcat(log))
    assert logcat.valid
    old = parse_log(as_old_build(log))
    assert old.valid and old.median_ms is None
    for name in FIGURES:
        assert getattr(logcat, name) == getattr(whole, name)
        if name not in ("median_ms", "p5_ms", "p95_ms"):
            assert getattr(old, name) == getattr(whole, name)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_log_cut_at_the_end_never_gives_a_wrong_number(data):
    log = data.draw(st.sampled_from(LOGS + [as_logcat(LOGS[0]), as_old_build(LOGS[0])]))
    cut = parse_log(log[: data.draw(st.integers(0, len(log)))])
    whole = parse_log(log)
    assert_same_or_nothing(cut, whole)
    if cut.valid:
        assert cut.mean_ms == whole.mean_ms
    assert cut.profile is None or not cut.profile.complete or cut.profile == whole.profile


@pytest.mark.parametrize("number", range(6))
def test_a_cut_inside_any_line_of_figures_gives_no_wrong_number(number):
    log = (LOGS[0], LOGS[2], LOGS[3], as_logcat(LOGS[0]), as_old_build(LOGS[0]), TIMINGS)[number]
    whole = parse_log(log)
    begin = 0
    for line in log.splitlines(keepends=True):
        if re.search("count=|timings in us|footprint|Initialized| ms|std|Peak", line):
            for place in range(begin, begin + len(line)):
                assert_same_or_nothing(parse_log(log[:place]), whole)
        begin += len(line)


def test_a_last_line_without_its_end_counts_if_no_digit_can_be_missing():
    assert parse_log(TIMINGS.rstrip()).mean_ms == 1.68792
    for digits in range(1, 4):  # 1687.9 may have been 1687.92, 1687 may have been 16870
        assert parse_log(TIMINGS.rstrip()[:-digits]).mean_ms is None
    assert parse_log(TIMINGS.replace("1687.92", "1.24027").rstrip()).mean_ms is None  # e+06?


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_log_cut_at_the_start_never_gives_a_wrong_number(data):
    log = data.draw(st.sampled_from(LOGS + [as_logcat(LOGS[0]), as_old_build(LOGS[0])]))
    report = parse_log(log[data.draw(st.integers(0, len(log))) :])
    if report.valid:
        assert_same_or_nothing(report, parse_log(log))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_log_that_lost_lines_never_gives_a_wrong_number(data):
    log = data.draw(st.sampled_from(LOGS + [as_logcat(LOGS[0])]))
    lines = log.splitlines(keepends=True)
    kept = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    report = parse_log("".join(line for line, keep in zip(lines, kept, strict=True) if keep))
    if report.valid:
        assert_same_or_nothing(report, parse_log(log))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_hole_in_a_log_never_gives_a_wrong_mean(data):
    log = data.draw(st.sampled_from(LOGS))
    begin = data.draw(st.integers(0, len(log)))
    report = parse_log(log[:begin] + log[data.draw(st.integers(begin, len(log))) :])
    if report.valid:
        # The other figures are printed once only: a hole within them may go unseen.
        assert_same_or_nothing(report, parse_log(log), ["mean_ms", "warmup_ms"])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_two_interleaved_logs_are_no_measurement(data):
    first, second = LOGS[0], make_log("classic", slowdown="1.5")
    pids = data.draw(st.booleans())
    streams = [
        (as_logcat(log, pid) if pids else log).splitlines(keepends=True)
        for log, pid in ((first, 11), (second, 22))
    ]
    generator = random.Random(data.draw(st.integers(0, 10**6)))
    mixed = []
    while any(streams):
        stream = generator.choice([stream for stream in streams if stream])
        mixed.append(stream.pop(0))
    report = parse_log("".join(mixed))
    assert not report.valid and report.mean_ms is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_error_written_anywhere_makes_the_log_invalid_or_is_seen(data):
    log = data.draw(st.sampled_from(LOGS))
    place = data.draw(st.integers(0, len(log)))
    report = parse_log(
        log[:place] + "ERROR: Node number 3 (FlexErf) failed to invoke.\n" + log[place:]
    )
    if report.valid:  # it can hide only in a line that no figure comes from
        assert_same_or_nothing(report, parse_log(log))
        line = log[:place].rpartition("\n")[2]
        assert line and "=" not in line.partition("=")[0]
        assert not line.lstrip().startswith(("INFO: count", "INFO: Inference timings"))
    if place == 0 or log[place - 1] == "\n":
        assert not report.valid
        assert any("failed to invoke" in error for error in report.errors)


@pytest.mark.large
@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_at_all_is_read_without_a_number(text):
    assert not parse_log(text).valid


@pytest.mark.parametrize(
    "change",
    [
        ("median=", "median=9"),
        ("avg=", "avg=9"),
        (" min=", " min=9"),
        ("Inference (avg): ", "Inference (avg): 1"),
        ("First inference: ", "First inference: 7"),
        ("Init: ", "Init: 1"),
        ("count=", "count=1"),
        (" std=", " std=9"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(change):
    report = parse_log(LOGS[0].replace(*change))
    assert not report.valid
    assert report.mean_ms is None and report.median_ms is None


def test_dry_runs_and_empty_logs_are_no_measurement():
    log = (
        "INFO: count=0 p5=0 median=0 p95=0\n\nINFO: count=0 p5=0 median=0 p95=0\n\n"
        "INFO: Inference timings in us: Init: 500, First inference: 0, Warmup (avg): -nan, "
        "Inference (avg): -nan\n"
    )
    assert not parse_log(log).valid
    assert parse_log("").errors == ("the log is empty",)


def test_pauses_between_runs_make_few_runs_possible():
    log = LOGS[0].replace("at least 30 iterations", "at least 3000 iterations")
    assert not parse_log(log).valid  # so few runs, in so short a time
    assert parse_log("INFO: Inter-run delay (seconds): [1]\n" + log).valid


@pytest.mark.parametrize(
    "line, seconds",
    [("count=1 curr=1357602", 1.357602), ("count=3 curr=2000(all same)", 0.002)],
)
def test_short_count_lines(line, seconds):
    report = parse_log(
        f"{line}\n\n{line}\n\nInference timings in us: Init: 1, First inference: "
        f"{seconds * 1e6:.0f}, Warmup (avg): {seconds * 1e6:.6g}, Inference (avg): "
        f"{seconds * 1e6:.6g}\n"
    )
    assert report.valid, report.errors
    assert report.mean_ms == pytest.approx(seconds * 1000, rel=1e-5)
    assert report.std_ms == 0


@pytest.mark.parametrize(
    "text",
    [
        "Failed to apply GPU delegate.",
        "Could not open '/data/local/tmp/x.tflite'.",
        "Failed to load model /x",
        "Node number 57 (BATCH_MATMUL) failed to prepare.",
        "Encountered unresolved custom op: FlexErf.",
        "Disallowed CPU fallback detected.",
        "Segmentation fault",
        "sh: ./benchmark_model: Permission denied",
        "sh: taskset: inaccessible or not found",
        'CANNOT LINK EXECUTABLE "benchmark_model": library "libx.so" not found',
    ],
)
def test_failures_without_a_prefix_are_errors(text):
    for log in (text + "\n" + LOGS[0], LOGS[0] + text + "\n"):
        report = parse_log(log)
        assert not report.valid and text in report.errors


def test_harmless_lines_are_no_errors():
    harmless = (
        "WARN: Failed to get the input model file size.\n"
        "WARNING: [plugin.cc:312] Failed to load plugin at: /x.so with error: ERROR: [a.cc:2]\n"
        "└ Could not load shared library /x.so: cannot open shared object file: No such file or "
        "directory.\n"
        "nnapi error: unable to open library libneuralnetworks.so\n"
        "Duplicate flags: num_threads\n"
    )
    report = parse_log(harmless + LOGS[0])
    assert report.valid, report.errors
    assert len(report.warnings) == 2


def test_unconsumed_flags_are_surfaced():
    report = parse_log("WARN: Unconsumed cmdline flags: --use_cpu=true --x=a b\n" + LOGS[0])
    assert report.unconsumed_flags == ("--use_cpu=true", "--x=a b")


GPU_LIST = (
    "ERROR: Following operations are not supported by GPU delegate:\n"
    "DEQUANTIZE: \nCUSTOM TFLite_X: TFLite_X\n{} operations will run on the GPU, and {} {} "
    "operations will run on the CPU.\n"
)


@pytest.mark.parametrize(
    "taken, rest, valid", [("5", "the remaining", True), ("0", "the remaining", False),
                           ("No", "all", False)]
)  # fmt: skip
def test_the_gpus_list_of_unsupported_operators_is_an_error_if_nothing_runs_there(
    taken, rest, valid
):
    report = parse_log(GPU_LIST.format(taken, rest, 2) + LOGS[0])
    assert report.valid == valid
    assert report.unsupported == (("DEQUANTIZE:", "CUSTOM TFLite_X: TFLite_X") if valid else ())
    assert bool(report.fallbacks) != valid
    cut = GPU_LIST.format(taken, rest, 2).rpartition("CUSTOM")[0]
    assert not parse_log(cut + LOGS[0]).valid


def test_a_list_of_operators_padded_by_blanks_is_read():
    log = (
        "========== Run Order ==========\n"
        "  [node type]    [first]  [avg ms]     [%]   [cdf%]  [mem KB]  [times called]  [Name]\n"
        "  convolution_2d 0 -> relu 1   0.265     0.272 40.000%  40.000%     0.000      1  "
        "Delegate/convolution_2d 0 -> relu 1:0\n"
        "  Add (ND, F32)    0.100     0.408 60.000% 100.000%     0.000      1  Delegate/Add:1\n\n"
        "Number of nodes executed: 2\n"
        "========== Delegate Statistics ==========\n"
        "Op Name        Count   Avg(us)\nAdd  1  3.000\n"
    )
    profile = parse_log(log).profile
    assert profile.complete
    assert [(o.kind, o.average_ms) for o in profile.operators] == [
        ("convolution_2d 0 -> relu 1", 0.272),
        ("Add (ND, F32)", 0.408),
    ]


def test_delegations_of_every_era():
    for text, expected in (
        ("Replacing 3 node(s) with delegate (A) node, yielding 2 partitions.", (3, None, 2, 0)),
        ("Replacing 3 out of 9 node(s) with delegate (A) node, yielding 2 partitions for the whole "
         "graph.", (3, 9, 2, 0)),
        ("Replacing 3 out of 9 node(s) with delegate (A) node, yielding 2 partitions for subgraph "
         "1 (while body).", (3, 9, 2, 1)),
    ):  # fmt: skip
        found = parse_log(f"VERBOSE: {text}\n").delegations[0]
        assert (found.delegated, found.total, found.partitions, found.subgraph) == expected


def test_csv_profile_with_commas_in_kinds_and_names():
    header = "node type, first, avg_ms, %, cdf%, mem KB, times called, name"
    kind = "Convolution (NHWC, QS8, QC8W) GEMM"
    log = (
        "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        "============================== Run Order ==============================\n"
        f"{header}\n{kind}, 0.11, 0.0930388, 44.8994%, 44.8994%, 0, 1, Delegate/{kind}:0\n"
        "SOFTMAX, 0.001, 2.1e-05, 55.1006%, 100%, 0, 1, [a, b]:1\n\n"
        "Number of nodes executed: 2\n"
    )
    profile = parse_log(log).profile
    assert profile.complete
    assert [(o.kind, o.name, o.average_ms) for o in profile.operators] == [
        (kind, f"Delegate/{kind}:0", 0.0930388),
        ("SOFTMAX", "[a, b]:1", 2.1e-05),
    ]
