"""The command itself: the whole way on two phones, interruption, comparison, the host."""

import json
import os
import re
import signal
import time

import pytest
from fake_phone import write_benchmark_model
from interpreter import count_calls

from keras_hybrid.benchmark.plan import latest
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.targets.delegates import DELEGATES

SHORT = ["--warmup_runs=2", "--warmup_seconds=0.01", "--min_runs=10", "--min_seconds=0.02",
         "--max_seconds=5", "--cooldown_seconds=0", "--max_load_per_core=1000"]  # fmt: skip


def test_help_is_quick_light_and_names_every_delegate(command, root):
    code = (
        "import sys, runpy\n"
        "sys.argv = ['benchmark.py', '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'ai_edge_litert'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    calls, output = count_calls(code, root / "tflite")
    assert "heavy: []" in output
    assert calls < 150_000
    assert all(name in output for name in DELEGATES)


def test_importing_every_module_of_the_room_is_quick_and_light(root):
    modules = sorted(
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in (root / "keras_hybrid" / "benchmark").rglob("*.py")
        if path.stem not in ("__init__", "worker")  # a process of its own, with NumPy
    )
    code = (
        f"import sys\nfor name in {modules}: __import__(name)\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'ai_edge_litert'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    calls, output = count_calls(code, root)
    assert "heavy: []" in output
    assert calls < 350_000


@pytest.mark.large
def test_the_whole_way_on_two_phones(make_phone, make_models, binary, command, tmp_path):
    phones = [make_phone("one"), make_phone("two", shell_v2=False)]
    names = ["m0.tflite", "m1.tflite", "a b;$(touch x).tflite"]
    models = [model.path for model in make_models(*names)]
    metrics = {
        name: {"label": f"Net {n}", "accuracy": 60 + n, "multiply_adds": 1e7 * (n + 1)}
        for n, name in enumerate(names)
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    out = tmp_path / "results"
    status, output = command(
        "--target=android", f"--benchmark_binary={binary}", "--threads=1,4", "--delegates=cpu,gpu",
        "--repetitions=3", "--max_repetitions=3", f"--output={out}",
        f"--metrics={tmp_path / 'metrics.json'}", *SHORT, *models,
    )  # fmt: skip
    assert status == 0, output
    rows = read_rows(out / "rows.jsonl")
    assert len(rows) == 2 * 3 * 2 * 2 * 3
    assert {row.status for row in rows} == {"ok"}
    assert {row.device_id for row in rows} == {phone.serial for phone in phones}
    assert len({(*row.configuration, row.repetition) for row in rows}) == len(rows)
    for phone in phones:
        order = [row.configuration[2:5] for row in rows if row.device_id == phone.serial]
        for begin in range(0, 36, 12):  # interleaved: each round holds every combination once
            assert len(set(order[begin : begin + 12])) == 12
        assert phone.files() == []
        assert not [path for path in phone.root.rglob("*") if path.name == "x"]
    for name in ("report.md", "rows.csv", "latency.png", "latency_accuracy.png"):
        assert (out / name).stat().st_size > 1000
    table = [line for line in (out / "report.md").read_text().splitlines() if "| cpu |" in line]
    assert len(table) == 12
    assert len((out / "rows.csv").read_text().splitlines()) == len(rows) + 1
    assert len(list((out / "logs").iterdir())) == len(rows)

    status, output = command(f"--output={out}", f"--compare={out / 'rows.jsonl'}")
    assert status == 0 and "same" in output
    assert (out / "comparison.md").read_text() in output


@pytest.mark.large
def test_a_killed_run_is_resumed(make_phone, make_models, binary, command, tmp_path):
    phone = make_phone()
    models = [model.path for model in make_models("a.tflite", "b.tflite")]
    out = tmp_path / "results"
    line = ["--target=android", f"--benchmark_binary={binary}", "--repetitions=3",
            "--max_repetitions=3", f"--output={out}", *SHORT, *models]  # fmt: skip
    running = command(*line, wait=False)
    deadline = time.monotonic() + 60
    while not (out / "rows.jsonl").exists() or not (out / "rows.jsonl").read_text():
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    before = read_rows(out / "rows.jsonl")
    assert 1 <= len(before) < 6
    status, output = command(*line)
    assert status == 2 and "--resume" in output  # nothing is overwritten by mistake
    status, output = command(*line, "--resume")
    assert status == 0, output
    rows = read_rows(out / "rows.jsonl")
    assert rows[: len(before)] == before
    assert len(latest(rows)) == 6 and {row.status for row in latest(rows)} == {"ok"}
    assert phone.files() == []


@pytest.mark.large
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_control_c_ends_in_order(end, make_phone, make_models, binary, command, tmp_path):
    phone = make_phone()
    models = [model.path for model in make_models("a.tflite", "b.tflite")]
    out = tmp_path / "results"
    running = command("--target=android", f"--benchmark_binary={binary}", "--repetitions=500",
                      "--max_repetitions=500", f"--output={out}", *SHORT, *models,
                      wait=False)  # fmt: skip
    deadline = time.monotonic() + 60
    while not (out / "rows.jsonl").exists() or not (out / "rows.jsonl").read_text():
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, end)  # as a terminal does: to all processes
    output = running.communicate(timeout=60)[0]
    assert running.returncode == 3, output
    assert "--resume" in output
    rows = read_rows(out / "rows.jsonl")
    assert 1 <= len(rows) < 1000 and all(row.status == "ok" for row in rows)
    assert phone.files() == []


@pytest.fixture
def tiny_model(small_model, tmp_path):
    """A real model under a name that a shell would stumble over."""
    path = tmp_path / "tiny;$(touch x).tflite"
    path.write_bytes(small_model.read_bytes())
    return path


@pytest.mark.large
def test_host_rows_have_the_schema_of_phones(tiny_model, command, tmp_path, require):
    require(module="ai_edge_litert")
    out = tmp_path / "results"
    host_binary = write_benchmark_model(tmp_path)
    status, output = command(
        "--target=host", "--delegates=cpu,builtin", "--threads=1", f"--output={out}",
        "--repetitions=1", "--max_repetitions=1", *SHORT, tiny_model,
    )  # fmt: skip
    assert status == 0, output
    rows = {row.delegate: row for row in read_rows(out / "rows.jsonl")}
    assert (rows["cpu"].delegated_nodes, rows["cpu"].total_nodes) == (7, 7)
    assert rows["builtin"].delegated_nodes == 0
    for row in rows.values():
        assert row.status == "ok" and row.target == "host" and row.num_threads == 1
        assert row.min_ms <= row.p5_ms <= row.median_ms <= row.p90_ms <= row.p95_ms <= row.max_ms
        assert row.init_ms > 0 and row.first_ms > 0 and row.runs >= 10
        assert row.overall_memory_mb > 0 and row.binary["name"] == "ai-edge-litert"
        assert len(row.model_sha256) == 64
    status, output = command(
        "--target=host", f"--host_binary={host_binary}", "--delegates=cpu", "--threads=1",
        f"--output={out}", "--repetitions=2", "--max_repetitions=2", "--resume", "--profile",
        *SHORT, tiny_model,
    )  # fmt: skip
    assert status == 0, output
    rows = read_rows(out / "rows.jsonl")
    programs = [row.program for row in rows if row.delegate == "cpu" and row.kind == "latency"]
    assert programs == ["ai-edge-litert", "benchmark_model", "benchmark_model"]  # never mixed
    assert "not attributed" in (out / "report.md").read_text()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Name at least one .tflite"),
        (["missing.tflite"], "must be a .tflite file"),
        ([__file__], "must be a TensorFlow Lite flatbuffer"),
        (["--delegates=gpu", "MODEL"], "--host_binary"),
        (["--delegates=quantum", "MODEL"], "quantum"),
        (["--threads=0", "MODEL"], "threads must be positive"),
        (["--profile", "--delegates=builtin", "MODEL"], "--host_binary"),
        (["--target=android", "MODEL"], "--benchmark_binary"),
        (["--target=android", "--benchmark_binary=none", "MODEL"], "must be a file"),
        (["--ab", "MODEL"], "compares two files"),
        (["--b_flag=--x=1", "MODEL"], "compares two files"),
        (["--verify=missing", "MODEL"], "--verify must be a folder"),
        (["--verify_top1=2", "--verify=.", "MODEL"], "least_top1=2"),
        (["--lock_clocks=7", "MODEL"], "lock_clocks=7"),
        (["--target=android", "--app", "--verify=.", "MODEL"], "the app is not"),
        (["--cores=big;reboot", "MODEL"], "cores must be"),
        (["--custom_delegate=x", "MODEL"], "A delegate is defined"),
        (["--compare=missing.jsonl"], "missing.jsonl"),
    ],
)
def test_wrong_usage_is_told(command, make_models, tmp_path, arguments, message):
    model = make_models("m.tflite")[0].path
    arguments = [model if argument == "MODEL" else argument for argument in arguments]
    status, output = command(f"--output={tmp_path / 'out'}", *arguments)
    assert status in (1, 2, 3) and message in output, output
    assert "Traceback" not in output
    assert not (tmp_path / "out" / "rows.jsonl").exists()


def test_no_phone_is_told(adb_server, binary, command, make_models, tmp_path):
    line = ["--target=android", f"--output={tmp_path / 'out'}", f"--benchmark_binary={binary}",
            make_models("m.tflite")[0].path]  # fmt: skip
    status, output = command(*line)
    assert status == 2 and "No device is ready" in output
    status, output = command(*line, "--serial=my phone; rm -rf x")
    assert status == 2 and "--serial must be a device" in output


@pytest.mark.large
def test_a_regression_ends_with_status_one(make_models, command, tmp_path):
    model = make_models("m.tflite")[0].path
    line = ["--target=host", f"--host_binary={write_benchmark_model(tmp_path)}",
            "--repetitions=5", "--max_repetitions=5", *SHORT]  # fmt: skip
    old, new = tmp_path / "old", tmp_path / "new"
    assert command(*line, f"--output={old}", model)[0] == 0
    slower = {"STANDIN_SLOWDOWN": "1.3"}
    compare = f"--compare={old / 'rows.jsonl'}"
    status, output = command(*line, f"--output={new}", compare, model, environment=slower)
    assert status == 1, output
    ratio = float(re.search(r"\| cpu \| ([\d.]+) \| [\d.]+ to", output)[1])
    assert 1.2 < ratio < 1.4 and "slower" in output
