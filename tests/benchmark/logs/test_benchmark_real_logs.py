"""Real logs, read where they lie beside the checkout: they are not part of it."""

import random
from pathlib import Path

import pytest
from benchmark_logs import assert_same_or_nothing

from keras_hybrid.benchmark.logs.parser import parse_log

SAMPLES = Path(__file__).parents[4] / "shared" / "android" / "samples"

# What people read in the logs of ../shared: name of the file -> figures in it, exactly.
KNOWN = {
    "01_": dict(valid=True, mean_ms=79.7609, init_ms=38.467, warmup_ms=83.235, operators=31),
    "02_": dict(valid=True, mean_ms=85.23, runs=50, peak_memory_mb=35.2, first_ms=120.45),
    "03_": dict(valid=True, median_ms=84.5, p95_ms=91.0, mean_ms=85.23),
    "04_litert_benchmark_python_real_stdout": dict(valid=True, median_ms=0.03, runs=30),
    "04_litert_benchmark_python_real_stderr": dict(valid=False, mean_ms=None),
    "10_": dict(valid=True, median_ms=0.462, mean_ms=0.464545, runs=2112, p95_ms=0.478,
                init_ms=4.478, first_ms=1.033, overall_memory_mb=11.51, operators=5,
                delegated=(1, 1, 1)),
    "11_": dict(valid=True, mean_ms=1240.27, median_ms=1239.807, overall_memory_mb=109.832),
    "13_": dict(valid=True, mean_ms=602.943, median_ms=None, first_ms=633.43, runs=50),
    "14_": dict(valid=True, median_ms=576.856, std_ms=325.425, delegated=(49, 49, 1)),
    "15_": dict(valid=True, median_ms=307.968, init_ms=5664.363, delegated=(49, 49, 1)),
    "16_": dict(valid=False, mean_ms=None, delegated=(2136, 2168, 65)),
    "18_logcat": dict(valid=True, median_ms=252.767, runs=25, delegated=(642, 685, 19)),
    "19_": dict(valid=False, mean_ms=None),
    "20_": dict(valid=True, mean_ms=0.058311, first_ms=0.129, operators=8),
    "21_": dict(valid=False, operators=12),
    "22_": dict(valid=True, mean_ms=7.45497, operators=6),
    "23_": dict(valid=True, median_ms=8.705, init_ms=355.447, operators=4, delegated=(4, 4, 1)),
    "24_": dict(valid=False, init_ms=188.735),
    "25_": dict(valid=True, mean_ms=56.2658, peak_memory_mb=93.2383, delegated=(58, 58, 1)),
    "27_": dict(valid=True, mean_ms=66.7676, init_ms=9.933, warmup_ms=76.6059),
    "29_": dict(valid=True, mean_ms=33.2094, peak_memory_mb=12.8672),
    "31_": dict(valid=True, mean_ms=74.4816, unconsumed=("--allow_fp16",)),
    "32_": dict(valid=False, mean_ms=None),
}  # fmt: skip


@pytest.fixture(scope="module")
def samples():
    if not SAMPLES.is_dir():
        pytest.skip("the folder of real logs is not beside this checkout")
    return {path.name: path.read_text() for path in SAMPLES.glob("*.txt")}


@pytest.mark.parametrize("prefix", sorted(KNOWN))
def test_real_logs_are_read_to_the_right_numbers(samples, prefix):
    text = next(text for name, text in samples.items() if name.startswith(prefix))
    report = parse_log(text)
    expected = dict(KNOWN[prefix])
    assert report.valid == expected.pop("valid"), report.errors
    if "operators" in expected:
        assert len(report.profile.operators) == expected.pop("operators")
    if "unconsumed" in expected:
        assert report.unconsumed_flags == expected.pop("unconsumed")
    if "delegated" in expected:
        found = report.delegations[0]
        counts = (found.delegated, found.total, found.partitions)
        assert counts == expected.pop("delegated")
    for name, value in expected.items():
        found = getattr(report, name)
        assert found == (None if value is None else pytest.approx(value, rel=1e-9)), name


def test_real_fragments_are_read_one_by_one(samples):
    text = next(text for name, text in samples.items() if name.startswith("34_"))
    reports = [parse_log(fragment) for fragment in text.split("---\n")]
    assert not any(report.valid for report in reports)
    assert [d.delegated for r in reports for d in r.delegations] == [63, 3]
    assert reports[4].fallbacks and reports[1].fallbacks
    assert reports[6].unsupported == ("MEAN: Operation is not supported.",)
    lines = next(text for name, text in samples.items() if name.startswith("05_")).splitlines()
    assert [parse_log(line + "\n").mean_ms for line in lines] == [1.68792, 14.5752]
    assert not parse_log("\n".join(lines)).valid  # two runs


def test_real_logs_cut_anywhere_give_no_wrong_number(samples):
    generator = random.Random(0)
    for name, text in samples.items():
        if name.startswith("05_"):  # two lines of two runs: cut after the first it is one whole run
            continue
        whole = parse_log(text)
        for _ in range(60):
            cut = parse_log(text[: generator.randrange(len(text) + 1)])
            if whole.mean_ms is not None:
                assert_same_or_nothing(cut, whole)
            else:
                assert not cut.valid
